"""The hot iris routes, answered in front of BentoML's router: the service's own, and those of standard protocols.

BentoML's router, parsing and serialising cost several times what the model does. This pure ASGI middleware
answers plain-JSON requests whose body is right, byte for byte as the declared methods would, and passes
everything else on to them: other content types, bodies that are wrong, bodies that are too long. A request to the
batched route that cannot be held is refused here, whatever its body is. Predictions by the Open Inference Protocol and
TensorFlow Serving's API are answered in full, as one function judges them here and there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cache

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.core.errors import DeadlineExceededError, ServingError
from serving.http.deadline import deadline
from serving.http.disconnect import while_connected
from serving.http.errors import error_response
from serving.http.iris import IrisHandler
from serving.http.request import SCOPE_KEY, TIMEOUT_HEADER, RequestRecord
from serving.http.schemas import rows_decoder
from serving.protocols.open_inference.answer import InferAnswer
from serving.protocols.open_inference.request import HEADER_LENGTH
from serving.protocols.open_inference.rest import answer_headers, infer
from serving.protocols.served_models import ServedModel
from serving.protocols.tfserving.rest import predict

_encode = msgspec.json.encode
_PREDICT = "/iris/predict"
_LABEL = "/iris/predict/label"
_BATCHED = "/iris/predict/batched"
_ROUTES = frozenset({_PREDICT, _LABEL, _BATCHED})
_INFER = "/v2/models/iris/infer"
_INFER_VERSION = "/v2/models/iris/versions/{}/infer"
_V2_PREFIX = "/v2/models/iris/"
_TF_PREDICT = "/v1/models/iris:predict"
_LENGTH_HEADER = HEADER_LENGTH.encode()


class DataPlane:
    """ASGI middleware. `handler` is called once, at the first request: the engine is loaded only after start.

    `served` likewise gives the model as the standard protocols see it; `v2` and `tfserving` say which of them are on.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        handler: Callable[[], IrisHandler],
        served: Callable[[], ServedModel],
        v2: bool,
        tfserving: bool,
        max_bytes: int,
        timeout_seconds: float,
    ) -> None:
        self.app = app
        self._handler = cache(handler)
        self._served = cache(served)
        self._v2 = v2
        self._tfserving = tfserving
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if scope.get("method") != "POST" or path not in _ROUTES:
            model = self._inferring(scope)
            if model is None:
                await self.app(scope, receive, send)
            else:
                await self._infer(model, scope, receive, send)
            return
        handler = self._handler()
        try:
            if path == _BATCHED:
                # Under overload most requests end here: reading and judging their bodies would take the time of
                # those that are answered.
                handler.admission.check()
            if _is_plain(scope["headers"]):
                await self._answer(handler, scope, receive, send)
                return
        except ServingError as error:
            await error_response(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _answer(self, handler: IrisHandler, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        message = await self._read(receive)
        if message["type"] == "http.disconnect":
            return
        rows = None if message.get("more_body") else rows_decoder.fast(message.get("body", b""))
        if rows is None:
            await self.app(scope, _replay(message, receive), send)
            return
        scope[SCOPE_KEY].size = f"rows={len(rows)}"
        prediction: list[list[float]] | list[str]
        try:
            if path == _PREDICT:
                prediction = handler.probabilities(rows)
            elif path == _LABEL:
                prediction = handler.most_probable(rows)
            else:
                async with deadline():
                    prediction = await handler.probabilities_batched(rows)
        except ClientDisconnect:
            return
        await _send(send, _encode({"prediction": prediction}), [(b"content-type", b"application/json")])

    def _inferring(self, scope: Scope) -> ServedModel | None:
        """The model, for a prediction by a standard protocol without a time limit of the client's own."""
        path: str = scope.get("path", "")
        if scope.get("method") != "POST":
            return None
        if path.startswith(_V2_PREFIX):
            if not self._v2 or path not in (_INFER, _INFER_VERSION.format(self._served().version)):
                return None
        elif path != _TF_PREDICT or not self._tfserving:
            return None
        return None if any(name == TIMEOUT_HEADER for name, _ in scope["headers"]) else self._served()

    async def _infer(self, model: ServedModel, scope: Scope, receive: Receive, send: Send) -> None:
        record = scope[SCOPE_KEY]
        length = next((value for name, value in scope["headers"] if name == _LENGTH_HEADER), None)
        try:
            message = await self._read(receive)
            if message["type"] == "http.disconnect":
                return
            if message.get("more_body"):
                await self.app(scope, _replay(message, receive), send)
                return
            body = message.get("body", b"")
            if model.batched:
                async with deadline(), while_connected(record.receive):
                    answer = await self._predict(model, record, body, length)
            else:
                answer = await self._predict(model, record, body, length)
        except ClientDisconnect:
            return
        except ServingError as error:
            await error_response(error)(scope, receive, send)
            return
        headers = [(name.encode(), value.encode()) for name, value in answer_headers(answer).items()]
        await _send(send, answer.body, headers)

    @staticmethod
    async def _predict(model: ServedModel, record: RequestRecord, body: bytes, length: bytes | None) -> InferAnswer:
        if record.scope["path"] == _TF_PREDICT:
            return InferAnswer(await predict(model, record, body), None)
        return await infer(model, record, body, length)

    async def _read(self, receive: Receive) -> Message:
        """The body as one message; above the limit it still has `more_body`.

        Raises:
            DeadlineExceededError: it took too long to arrive.
        """
        message = await receive()
        if message.get("more_body"):
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    message = await self._rest(message, receive)
            except TimeoutError as error:
                raise DeadlineExceededError("the body took too long to arrive") from error
        return message

    async def _rest(self, message: Message, receive: Receive) -> Message:
        """`message` and what follows it as one; stops above the limit, with `more_body` still set."""
        parts = [message["body"]]
        size = len(message["body"])
        while message.get("more_body") and size <= self._max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        return {"type": "http.request", "body": b"".join(parts), "more_body": message.get("more_body", False)}


async def _send(send: Send, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_plain(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """JSON, or not said to be anything else, and no time limit of the client's own."""
    for name, value in headers:
        if (name == b"content-type" and value not in (b"application/json", b"")) or name == TIMEOUT_HEADER:
            return False
    return True


def _replay(message: Message, receive: Receive) -> Receive:
    first: list[Message] = [message]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed
