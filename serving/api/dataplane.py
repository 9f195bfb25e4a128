"""The hot iris routes, answered in front of BentoML's router.

BentoML's router, parsing and serialising cost several times what the model does. This pure ASGI middleware
answers plain-JSON requests whose body is right, byte for byte as the declared methods would, and passes
everything else on to them: other content types, bodies that are wrong, bodies that are too long. A request to the
batched route that cannot be held is refused here, whatever its body is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cache

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.deadline import deadline
from serving.api.errors import error_response
from serving.api.iris import IrisHandler
from serving.api.request import SCOPE_KEY, TIMEOUT_HEADER
from serving.api.schemas import rows_decoder
from serving.errors import DeadlineExceededError, ServingError

_encode = msgspec.json.encode
_PREDICT = "/iris/predict"
_LABEL = "/iris/predict/label"
_BATCHED = "/iris/predict/batched"
_ROUTES = frozenset({_PREDICT, _LABEL, _BATCHED})


class DataPlane:
    """ASGI middleware. `handler` is called once, at the first request: the engine is loaded only after start."""

    def __init__(
        self, app: ASGIApp, *, handler: Callable[[], IrisHandler], max_bytes: int, timeout_seconds: float
    ) -> None:
        self.app = app
        self._handler = cache(handler)
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path not in _ROUTES or scope.get("method") != "POST":
            await self.app(scope, receive, send)
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
        message = await receive()
        if message.get("more_body"):
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    message = await self._rest(message, receive)
            except TimeoutError as error:
                raise DeadlineExceededError("the body took too long to arrive") from error
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
        body = _encode({"prediction": prediction})
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})

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
