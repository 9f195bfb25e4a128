"""TensorFlow Serving's REST API: https://www.tensorflow.org/tfx/serving/api_rest, and KServe's list of models."""

from __future__ import annotations

from functools import partial
from typing import Any

from serving.http.exchange import Answer, Exchange
from serving.http.routes import Route
from serving.model import Models
from serving.protocols.http import INFERENCE_ERRORS, answer_body, model_parameter, protocol_operation
from serving.protocols.tfserving import schemas
from serving.protocols.tfserving.json import (
    encode,
    read_classify,
    read_predict,
    write_classify,
    write_metadata,
    write_predict,
    write_status,
)
from serving.protocols.tfserving.meaning import Meaning, Meanings

_describe = partial(protocol_operation, tag="tensorflow serving")


class _Handlers:
    def __init__(self, models: Models) -> None:
        self._meanings = Meanings(models)

    def _find(self, exchange: Exchange) -> Meaning:
        parameters = exchange.parameters
        return self._meanings.find(
            parameters["model"], version=parameters.get("version"), label=parameters.get("label")
        )

    async def predict(self, exchange: Exchange) -> Answer:
        found = self._find(exchange)

        # Of any content type: TensorFlow Serving does not look, and curl says that it sends a form.
        async def answer(body: bytes) -> Answer:
            exchange.model = found.model.tag
            request, by_row = read_predict(body, exchange.content_type)
            return Answer(write_predict(await found.predict(request, exchange), by_row=by_row))

        return await answer_body(exchange, found.model, answer)

    async def classify(self, exchange: Exchange) -> Answer:
        found = self._find(exchange)

        async def answer(body: bytes) -> Answer:
            exchange.model = found.model.tag
            return Answer(write_classify(await found.classify(read_classify(body, exchange.content_type), exchange)))

        return await answer_body(exchange, found.model, answer)

    async def status(self, exchange: Exchange) -> Answer:
        return Answer(write_status(self._find(exchange).model))

    async def metadata(self, exchange: Exchange) -> Answer:
        return Answer(write_metadata(self._find(exchange).describe()))

    async def models(self, _exchange: Exchange) -> Answer:
        return Answer(encode({"models": self._meanings.names()}))


def routes(models: Models) -> list[Route]:
    """The routes below `/v1/models`."""
    handlers = _Handlers(models)
    model = model_parameter(models)
    names = _describe("tfserving_models", "The names of all models.", answer=schemas.ModelNames, errors=(500,))
    found = [Route("GET", "/v1/models", handlers.models, names)]
    for path, suffix, parameters in (
        ("/v1/models/{model}", "", [model]),
        ("/v1/models/{model}/versions/{version}", "_version", [model, schemas.VERSION_PARAMETER]),
        ("/v1/models/{model}/labels/{label}", "_label", [model, schemas.LABEL_PARAMETER]),
    ):
        found += _model_routes(handlers, path, suffix, parameters)
    return found


def _model_routes(handlers: _Handlers, path: str, suffix: str, parameters: list[dict[str, Any]]) -> list[Route]:
    errors = (400, 404, 500) if suffix == "_label" else (404, 500)
    predict = _describe(
        f"tfserving_predict{suffix}",
        "Predict: the outputs that the signature says.",
        answer=schemas.Predictions,
        errors=INFERENCE_ERRORS,
        parameters=parameters,
        timed=True,
        body={"application/json": schemas.PREDICT_SCHEMA},
    )
    classify = _describe(
        f"tfserving_classify{suffix}",
        "Every class with its score for each example.",
        answer=schemas.Classifications,
        errors=INFERENCE_ERRORS,
        parameters=parameters,
        timed=True,
        body={"application/json": schemas.CLASSIFY_SCHEMA},
    )
    status = _describe(
        f"tfserving_status{suffix}",
        "The version that is served and whether it answers.",
        answer=schemas.ModelStatus,
        errors=errors,
        parameters=parameters,
    )
    metadata = _describe(
        f"tfserving_metadata{suffix}",
        "The signatures of a model.",
        answer=schemas.ModelMetadata,
        errors=errors,
        parameters=parameters,
    )
    return [
        Route("POST", f"{path}:predict", handlers.predict, predict),
        Route("POST", f"{path}:classify", handlers.classify, classify),
        Route("GET", path, handlers.status, status),
        Route("GET", f"{path}/metadata", handlers.metadata, metadata),
    ]
