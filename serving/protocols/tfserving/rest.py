"""TensorFlow Serving's REST API: https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving.core.errors import InvalidInputError, NotFoundError
from serving.http.deadline import deadline
from serving.http.disconnect import while_connected
from serving.http.mounted import make_mounted_app
from serving.http.request import RequestRecord, current_request
from serving.protocols.protocol_http import declare, json_response, model_parameter, served_models
from serving.protocols.served_models import (
    CLASSIFY,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    PREDICT,
    ServedModel,
    Signature,
)
from serving.protocols.tfserving import documents
from serving.protocols.tfserving.json import example_values, read_classify, read_predict, read_values

_TAG = "tensorflow serving"
_LONGEST_NAME = 64
_PREDICTS = (400, 404, 413, 429, 500, 503, 504)
_encode = msgspec.json.encode
_VERSION_PARAMETER = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "as the model's status has it",
    "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
}
_LABEL_PARAMETER = {
    "name": "label",
    "in": "path",
    "required": True,
    "description": "one of the model's `version_labels`, or the version of its tag",
    "schema": {"type": "string"},
}

Answer = Callable[[ServedModel, RequestRecord, bytes], Awaitable[bytes]]


async def predict(model: ServedModel, record: RequestRecord, body: bytes) -> bytes:
    """The answer of `:predict`; for whoever watches client and time limit himself.

    Raises:
        ServingError: it cannot be answered.
    """
    record.model = model.tag
    request = read_predict(body)
    signature = _signature(model, request.signature_name or DEFAULT_SIGNATURE, PREDICT)
    probabilities = await model.predict(read_values(request, signature, model), record)
    (output,) = signature.outputs
    values = model.most_probable(probabilities) if output.dtype == "bytes" else probabilities.tolist()
    return _encode({"predictions" if request.by_row else "outputs": values})


async def classify(model: ServedModel, record: RequestRecord, body: bytes) -> bytes:
    """The answer of `:classify`: every class with its score, in the order of their ids. Otherwise as `predict`."""
    record.model = model.tag
    name, examples = read_classify(body)
    _signature(model, name or CLASSIFY_SIGNATURE, CLASSIFY)
    probabilities = await model.predict(example_values(examples, model), record)
    results = [list(zip(model.labels, row, strict=True)) for row in probabilities.tolist()]
    return _encode({"results": results})


def _signature(model: ServedModel, name: str, method: str) -> Signature:
    signature = model.signatures.get(name)
    if signature is None:
        there = ", ".join(model.signatures)
        raise InvalidInputError(f'Serving signature key "{name[:_LONGEST_NAME]}" not found; there is {there}')
    if signature.method != method:
        raise InvalidInputError(f"the method of signature {name} is {signature.method}, not {method}")
    return signature


def _find(request: Request) -> ServedModel:
    """The model that a path names.

    Raises:
        NotFoundError: the model or this version of it is not served.
        InvalidInputError: it has no version with this label.
    """
    name, version = request.path_params["model"], request.path_params.get("version")
    models, short = served_models(), name[:_LONGEST_NAME]
    try:
        if version is None:
            model = models.get(name)
        elif version.isascii() and version.isdigit() and len(version) < 20:
            model = models.get(name, version=int(version))
        else:
            raise NotFoundError("no number")
    except NotFoundError as error:
        asked = f"Latest({short})" if version is None else f"Specific({short}, {version[:_LONGEST_NAME]})"
        raise NotFoundError(f"Servable not found for request: {asked}") from error
    label = request.path_params.get("label")
    if label is not None and label not in model.version_labels:
        raise InvalidInputError(f"Unrecognized servable version label: {label[:_LONGEST_NAME]}")
    return model


def make_tfserving(*models: str) -> FastAPI:
    """The routes of `models`, as an app to mount."""
    app = make_mounted_app()
    parameter = model_parameter(models)
    for path, suffix, parameters in (
        ("/v1/models/{model}", "", [parameter]),
        ("/v1/models/{model}/versions/{version}", "_version", [parameter, _VERSION_PARAMETER]),
        ("/v1/models/{model}/labels/{label}", "_label", [parameter, _LABEL_PARAMETER]),
    ):
        _add_method(
            app,
            predict,
            path=f"{path}:predict",
            name=f"tfserving_predict{suffix}",
            summary="Predict rows or image files: probabilities or labels, as the signature says.",
            parameters=parameters,
            request=documents.PREDICT_SCHEMA,
            response=documents.Predictions,
        )
        _add_method(
            app,
            classify,
            path=f"{path}:classify",
            name=f"tfserving_classify{suffix}",
            summary="Every class with its score for each example.",
            parameters=parameters,
            request=documents.CLASSIFY_SCHEMA,
            response=documents.Classifications,
        )
        _add_description(app, path, suffix, parameters)
    return app


def _add_method(
    app: FastAPI,
    answer: Answer,
    *,
    path: str,
    name: str,
    summary: str,
    parameters: list[dict[str, Any]],
    request: dict[str, Any],
    response: type,
) -> None:
    async def call(request: Request) -> Response:
        record = current_request.get()
        async with deadline():
            model = _find(request)
            # Of any content type: TensorFlow Serving does not look, and curl says that it sends a form.
            body = await request.body()
            async with while_connected(record.receive):
                return json_response(await answer(model, record, body))

    content = {"application/json": {"schema": request}}
    declared = declare(_TAG, summary, _PREDICTS, parameters=parameters, timed=True, body=content)
    app.post(path, name=name, response_model=response, **declared)(call)


def _add_description(app: FastAPI, path: str, suffix: str, parameters: list[dict[str, Any]]) -> None:
    statuses = (400, 404, 500) if suffix == "_label" else (404, 500)

    async def status(request: Request) -> Response:
        return json_response(_encode(documents.describe_status(_find(request))))

    async def metadata(request: Request) -> Response:
        return json_response(_encode(documents.describe_model(_find(request))))

    declared = declare(_TAG, "The version that is served and whether it answers.", statuses, parameters=parameters)
    app.get(path, name=f"tfserving_status{suffix}", response_model=documents.ModelStatus, **declared)(status)
    declared = declare(_TAG, "The signatures of a model.", statuses, parameters=parameters)
    app.get(f"{path}/metadata", name=f"tfserving_metadata{suffix}", response_model=documents.ModelMetadata, **declared)(
        metadata
    )
