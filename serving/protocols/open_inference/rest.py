"""The Open Inference Protocol (KServe's V2) over HTTP, with the extensions that Triton's clients use.

https://github.com/kserve/open-inference-protocol and, for `binary_tensor_data`, `classification`,
`model_configuration`, `model_repository` and `statistics`,
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from serving.core.errors import InvalidInputError
from serving.http.exchange import Answer, Exchange, Handler
from serving.http.routes import Route
from serving.metrics import Metrics
from serving.metrics.inference import Sums
from serving.model import Models
from serving.protocols.http import INFERENCE_ERRORS, answer_body, model_parameter, protocol_operation
from serving.protocols.open_inference import meaning, schemas
from serving.protocols.open_inference.json import (
    encode,
    header_length,
    read_index_request,
    read_request,
    write_response,
)
from serving.protocols.open_inference.meaning import Meaning, Meanings

_TAG = "open inference protocol"
_LENGTH = b"inference-header-content-length"
_BINARY = (b"content-type", b"application/octet-stream")
_describe = partial(protocol_operation, tag=_TAG)


def routes(models: Models, *, ready: Callable[[], bool], metrics: Callable[[], Metrics]) -> list[Route]:
    """The routes below `/v2`.

    Args:
        ready: whether this server answers predictions.
        metrics: those of this process, called at each request for statistics.
    """
    handlers = _Handlers(models, sums=lambda model: metrics().inference_sums(model), ready=ready)
    return [*_server_routes(handlers), *_model_routes(handlers, model_parameter(models)), *_refusals()]


class _Handlers:
    def __init__(self, models: Models, *, sums: Callable[[str], Sums], ready: Callable[[], bool]) -> None:
        self._meanings = Meanings(models, sums=sums)
        self._ready = ready

    def _find(self, exchange: Exchange) -> Meaning:
        return self._meanings.find(exchange.parameters["model"], exchange.parameters.get("version", ""))

    async def infer(self, exchange: Exchange) -> Answer:
        found = self._find(exchange)

        async def answer(body: bytes) -> Answer:
            exchange.model = found.model.tag
            request = read_request(body, header_length(exchange.header(_LENGTH), body), exchange.content_type)
            content, json_length = write_response(await found.infer(request, exchange))
            if json_length is None:
                return Answer(content)
            return Answer(content, headers=(_BINARY, (_LENGTH, b"%d" % json_length)))

        return await answer_body(exchange, found.model, answer)

    async def metadata(self, exchange: Exchange) -> Answer:
        return Answer(encode(self._find(exchange).metadata()))

    async def config(self, exchange: Exchange) -> Answer:
        return Answer(encode(self._find(exchange).config()))

    async def model_ready(self, exchange: Exchange) -> Answer:
        model = self._find(exchange).model
        if not model.ready:
            return _not_ready(f"model {model.name} is not ready")
        return Answer(encode({"name": model.name, "ready": True}))

    async def statistics(self, exchange: Exchange) -> Answer:
        return await self._statistics(self._find(exchange))

    async def all_statistics(self, _exchange: Exchange) -> Answer:
        return await self._statistics(*self._meanings)

    async def _statistics(self, *meanings: Meaning) -> Answer:
        return Answer(encode({"model_stats": await self._meanings.statistics(meanings)}))

    async def index(self, exchange: Exchange) -> Answer:
        only_ready = read_index_request(await exchange.body(), exchange.content_type)
        return Answer(encode(self._meanings.index(only_ready=only_ready)))

    async def server(self, _exchange: Exchange) -> Answer:
        return Answer(encode(meaning.server()))

    async def live(self, _exchange: Exchange) -> Answer:
        return Answer(encode({"live": True}))

    async def ready(self, _exchange: Exchange) -> Answer:
        if not self._ready():
            return _not_ready("the server is starting or stopping, or a runner is away")
        return Answer(encode({"ready": True}))


def _not_ready(message: str) -> Answer:
    """The protocol wants 4xx for a health question that is answered with no."""
    return Answer(encode({"error": message}), 400)


def _server_routes(handlers: _Handlers) -> list[Route]:
    return [
        Route(
            "GET",
            "/v2",
            handlers.server,
            _describe(
                "v2_server",
                "Name, version and extensions of this server.",
                answer=schemas.InferenceServer,
                errors=(500,),
            ),
        ),
        Route(
            "GET",
            "/v2/health/live",
            handlers.live,
            _describe("v2_live", "The process answers.", answer=schemas.InferenceLive, errors=(500,)),
        ),
        Route(
            "GET",
            "/v2/health/ready",
            handlers.ready,
            _describe(
                "v2_server_ready", "Whether all models answer.", answer=schemas.InferenceReady, errors=(400, 500)
            ),
        ),
        Route(
            "GET",
            "/v2/models/stats",
            handlers.all_statistics,
            _describe(
                "v2_all_stats",
                "How often and how fast each model was asked.",
                answer=schemas.InferenceStatistics,
                errors=(500,),
            ),
        ),
        Route(
            "POST",
            "/v2/repository/index",
            handlers.index,
            _describe(
                "v2_repository_index",
                "The models, or with `ready` those that answer.",
                answer={"type": "array", "items": schemas.InferenceIndexEntry},
                errors=(400, 413, 415, 500),
                body={"application/json": {"type": "object", "properties": {"ready": {"type": ["boolean", "null"]}}}},
                body_required=False,
            ),
        ),
    ]


def _model_routes(handlers: _Handlers, model: dict[str, Any]) -> list[Route]:
    """Those of a model, without a version and with one."""
    found: list[Route] = []
    for path, suffix, parameters in (
        ("/v2/models/{model}", "", [model]),
        ("/v2/models/{model}/versions/{version}", "_version", [model, schemas.VERSION_PARAMETER]),
    ):
        described: tuple[tuple[str, Handler, str, str, Any, tuple[int, ...]], ...] = (
            ("", handlers.metadata, "model", "Versions, inputs and outputs of a model.", schemas.InferenceModel, ()),
            (
                "/ready",
                handlers.model_ready,
                "ready",
                "Whether a model answers.",
                schemas.InferenceModelReady,
                (400,),
            ),
            (
                "/config",
                handlers.config,
                "config",
                "A model's configuration, as Triton has it.",
                schemas.InferenceModelConfig,
                (),
            ),
            (
                "/stats",
                handlers.statistics,
                "stats",
                "How often and how fast a model was asked.",
                schemas.InferenceStatistics,
                (),
            ),
        )
        infer = _describe(
            f"v2_infer{suffix}",
            "Predict named tensors: rows, image files, pixels, or whatever the model takes.",
            answer=schemas.InferenceResponse,
            answer_types={"application/octet-stream": schemas.BINARY},
            description="The outputs.",
            errors=INFERENCE_ERRORS,
            parameters=[*parameters, schemas.LENGTH_PARAMETER],
            timed=True,
            body={"application/json": schemas.REQUEST_SCHEMA, "application/octet-stream": schemas.BINARY["schema"]},
        )
        found.append(Route("POST", f"{path}/infer", handlers.infer, infer))
        found.extend(
            Route(
                "GET",
                f"{path}{end}",
                handler,
                _describe(
                    f"v2_{name}{suffix}", summary, answer=answer, errors=(*errors, 404, 500), parameters=parameters
                ),
            )
            for end, handler, name, summary, answer, errors in described
        )
    return found


def _refusals() -> list[Route]:
    """A path that is only missing would leave the caller to look for a mistake of their own."""

    def refusing(reason: str) -> Handler:
        async def refuse(_exchange: Exchange) -> Answer:
            raise InvalidInputError(reason)

        return refuse

    return [
        Route(method, path, refusing(missing.reason), {}, {"rest": ".+"})
        for missing in meaning.MISSING
        for path in missing.paths
        for method in ("GET", "POST")
    ]
