"""The Open Inference Protocol (KServe's V2) over HTTP, with the extensions that Triton's clients use.

https://github.com/kserve/open-inference-protocol and, for `binary_tensor_data`, `classification`, `model_repository`
and `statistics`, https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

import asyncio
from typing import Any

import bentoml
import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving.core.errors import MalformedRequestError
from serving.http.deadline import deadline
from serving.http.disconnect import while_connected
from serving.http.mounted import make_mounted_app
from serving.http.request import RequestRecord, current_request
from serving.protocols.open_inference import documents
from serving.protocols.open_inference.answer import InferAnswer, encode_answer
from serving.protocols.open_inference.request import HEADER_LENGTH, header_length, read_request
from serving.protocols.protocol_http import declare, json_response, model_parameter, served_models
from serving.protocols.served_models import ServedModel

_TAG = "open inference protocol"
_INFER = (400, 404, 413, 429, 500, 503, 504)
_encode = msgspec.json.encode
_decode_index = msgspec.json.Decoder(msgspec.defstruct("index", [("ready", bool, False)])).decode
_BINARY = {"schema": {"type": "string", "format": "binary", "description": "JSON, and binary data after it."}}
_VERSION_PARAMETER = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "as the model's metadata has it, or the version of its tag",
    "schema": {"type": "string"},
}
_LENGTH_PARAMETER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Length of the JSON, when binary data follows it.",
    "schema": {"type": "integer", "minimum": 1},
}


async def infer(model: ServedModel, record: RequestRecord, body: bytes, length: bytes | str | None) -> InferAnswer:
    """Answer an inference request; for whoever watches client and time limit himself.

    Args:
        length: value of the header `Inference-Header-Content-Length`.

    Raises:
        ServingError: it cannot be answered.
    """
    record.model = model.tag
    request = read_request(body, header_length(length, body), model)
    return encode_answer(request, await model.predict(request.values, record), model)


def answer_headers(answer: InferAnswer) -> dict[str, str]:
    """Those that say how the body is to be read."""
    if answer.json_length is None:
        return {"content-type": "application/json"}
    return {"content-type": "application/octet-stream", HEADER_LENGTH: str(answer.json_length)}


def make_v2(*models: str) -> FastAPI:
    """The routes of `models`, as an app to mount."""
    app = make_mounted_app()
    _add_inference(app, models)
    _add_server(app)
    _add_models(app, models)
    return app


def _find(request: Request) -> ServedModel:
    return served_models().find(request.path_params["model"], request.path_params.get("version", ""))


def _json(document: Any) -> Response:
    return json_response(_encode(document))


def _paths(path: str, models: tuple[str, ...]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Path, suffix of the operation's name and parameters, without a version and with one."""
    parameter = model_parameter(models)
    return [
        (f"/v2/models/{{model}}{path}", "", [parameter]),
        (f"/v2/models/{{model}}/versions/{{version}}{path}", "_version", [parameter, _VERSION_PARAMETER]),
    ]


def _add_inference(app: FastAPI, models: tuple[str, ...]) -> None:
    async def answer(request: Request) -> Response:
        record = current_request.get()
        async with deadline():
            model = _find(request)
            body = await request.body()
            async with while_connected(record.receive):
                found = await infer(model, record, body, request.headers.get(HEADER_LENGTH))
        return Response(found.body, headers=answer_headers(found))

    for path, suffix, parameters in _paths("/infer", models):
        declared = declare(
            _TAG,
            "Predict one tensor: rows, image files or pixels.",
            _INFER,
            parameters=[*parameters, _LENGTH_PARAMETER],
            timed=True,
            body={"application/json": {"schema": documents.REQUEST_SCHEMA}, "application/octet-stream": _BINARY},
        )
        declared["responses"][200] = {"content": {"application/octet-stream": _BINARY}, "description": "The outputs."}
        app.post(path, name=f"v2_infer{suffix}", response_model=documents.InferenceResponse, **declared)(answer)


def _add_models(app: FastAPI, models: tuple[str, ...]) -> None:
    async def metadata(request: Request) -> Response:
        return _json(documents.describe_model(_find(request)))

    async def ready(request: Request) -> Response:
        model = _find(request)
        if not model.ready:
            return not_ready(f"model {model.name} is not ready")
        return _json({"name": model.name, "ready": True})

    async def statistics(request: Request) -> Response:
        return await _statistics(_find(request))

    for path, suffix, parameters in _paths("", models):
        declared = declare(_TAG, "Versions, inputs and outputs of a model.", (404, 500), parameters=parameters)
        app.get(path, name=f"v2_model{suffix}", response_model=documents.InferenceModel, **declared)(metadata)
    for path, suffix, parameters in _paths("/ready", models):
        declared = declare(_TAG, "Whether a model answers.", (400, 404, 500), parameters=parameters)
        app.get(path, name=f"v2_ready{suffix}", response_model=documents.InferenceModelReady, **declared)(ready)
    for path, suffix, parameters in _paths("/stats", models):
        declared = declare(_TAG, "How often and how fast a model was asked.", (404, 500), parameters=parameters)
        app.get(path, name=f"v2_stats{suffix}", response_model=documents.InferenceStatistics, **declared)(statistics)


async def _statistics(*models: ServedModel) -> Response:
    for model in models:
        model.statistics.flush()
    metrics = bentoml.get_current_service().metrics
    # In a thread, as the figures of the other processes are in files.
    sums = [await asyncio.to_thread(metrics.inference_sums, model.name) for model in models]
    described = [documents.describe_statistics(*each) for each in zip(models, sums, strict=True)]
    return _json({"model_stats": described})


def not_ready(message: str) -> Response:
    """The protocol wants 4xx for a health question that is answered with no."""
    return json_response(_encode({"error": message}), 400)


def _add_server(app: FastAPI) -> None:
    @app.get(
        "/v2",
        response_model=documents.InferenceServer,
        **declare(_TAG, "Name, version and extensions of this server.", (500,)),
    )
    async def v2_server() -> Response:
        return _json(documents.describe_server())

    @app.get("/v2/health/live", response_model=documents.InferenceLive, **declare(_TAG, "The process answers.", (500,)))
    async def v2_live() -> Response:
        return _json({"live": True})

    @app.get(
        "/v2/health/ready",
        response_model=documents.InferenceReady,
        **declare(_TAG, "Whether all models answer.", (400, 500)),
    )
    async def v2_server_ready() -> Response:
        if not bentoml.get_current_service().__is_ready__():
            return not_ready("the server is starting or stopping, or a runner is away")
        return _json({"ready": True})

    # Before the routes of models, one of which would take `stats` for a model's name.
    @app.get(
        "/v2/models/stats",
        response_model=documents.InferenceStatistics,
        **declare(_TAG, "How often and how fast each model was asked.", (500,)),
    )
    async def v2_all_stats() -> Response:
        return await _statistics(*served_models())

    index_body = {"schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}

    @app.post(
        "/v2/repository/index",
        response_model=list[documents.InferenceIndexEntry],
        **declare(
            _TAG,
            "The models, or with `ready` those that answer.",
            (400, 413, 500),
            body={"application/json": index_body},
            body_required=False,
        ),
    )
    async def v2_repository_index(request: Request) -> Response:
        body = await request.body()
        try:
            only_ready = bool(body) and _decode_index(body).ready  # type: ignore[attr-defined]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedRequestError('the body has to be empty or such as {"ready": true}') from error
        return _json([documents.index_entry(model) for model in served_models() if model.ready or not only_ready])
