"""Tensors between the API and a runner: both ends of one small HTTP exchange on BentoML's Unix socket.

`depends()` names the runners and BentoML starts them; its client pickles, opens a schema for each answer and
pools connections in a way that loses requests. Here the body is the tensors themselves, in the form that
`serving.core.tensors` describes. A client that closes its connection takes its rows out of the runner's queue.

Request: `POST /tensors/{model}` with the tensors, `X-Expires-In-Ms` milliseconds, and `X-Alone: 1` for an engine call
of its own. Answer: 200 and the outputs, or 422 and `{"code", "message", "retry_after"}` of one of our errors.

`GET /tensors` is answered and then stays open for as long as the process lives. BentoML's supervisor holds the
listening socket, so without it a call to a dead runner would hang in the socket's backlog.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec
from opentelemetry import propagate
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.core import errors
from serving.core.errors import OverloadedError, ServingError, UnavailableError
from serving.core.tensors import Tensors, from_bytes, to_bytes
from serving.http.disconnect import while_connected

logger = logging.getLogger("serving.tensor_link")

PATH = "/tensors"
_EXPIRES = "x-expires-in-ms"
_ALONE = "x-alone"
_REFUSED = 422
_RECONNECT_SECONDS = 0.1
# Less than uvicorn's 5 s, so that no connection is used at the moment at which the runner closes it.
_KEEPALIVE_SECONDS = 1.0
_BY_CODE: dict[str, type[ServingError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServingError)
}


class _Failure(msgspec.Struct):
    code: str
    message: str
    retry_after: float | None = None


_decode_failure = msgspec.json.Decoder(_Failure).decode


class SubmitTo(Protocol):
    """How tensors reach a model by its name; see `serving.placement.Submit`."""

    async def __call__(
        self, model: str, tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False
    ) -> Tensors: ...


class TensorServer:
    """ASGI middleware of a runner: answers the link's routes and passes everything else on.

    Args:
        submit: to the batcher of a model.
    """

    def __init__(self, app: ASGIApp, *, submit: SubmitTo) -> None:
        self.app = app
        self._submit = submit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PATH):
            await self.app(scope, receive, send)
            return
        model = scope["path"].removeprefix(PATH).removeprefix("/")
        if not model:
            await _stay(receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        headers = dict(scope["headers"])
        expires_in = headers.get(_EXPIRES.encode())
        try:
            async with while_connected(receive):
                outputs = await self._submit(
                    model,
                    from_bytes(body),
                    expires_in=math.inf if expires_in is None else float(expires_in) / 1e3,
                    alone=_ALONE.encode() in headers,
                )
        except ClientDisconnect:
            return
        except ServingError as error:
            failure = _Failure(error.code, error.message, error.retry_after)
            await _send(send, _REFUSED, b"application/json", msgspec.json.encode(failure))
            return
        await _send(send, 200, b"application/octet-stream", to_bytes(outputs))


async def _read(receive: Receive) -> bytes | None:
    """The whole body; `None` when the client has gone. The API has limited it already."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _stay(receive: Receive, send: Send) -> None:
    """Begin an answer and leave it open until the client goes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b".", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class TensorClient:
    """The API's end: `submit` as if the batchers were here.

    While the runner is starting or has died every call fails at once. Make it in a running loop.

    Args:
        url: `file:///…/x.sock` or `tcp://host:port`, as BentoML names its runners.
        traced: send the trace context along.
    """

    def __init__(self, url: str, *, traced: bool) -> None:
        parts = urlsplit(url)
        connector: aiohttp.BaseConnector
        self._handle: int | None = None
        if parts.scheme == "file":
            # BentoML's supervisor removes the socket's file as soon as it is told to stop, while requests that
            # were accepted still need the runner; through an open handle it can be reached all the same.
            self._handle = os.open(unquote(parts.path), os.O_PATH)
            path = f"/proc/self/fd/{self._handle}"
            connector = aiohttp.UnixConnector(path, limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
            base = "http://runner"
        else:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
            base = f"http://{parts.netloc}"
        self._session = aiohttp.ClientSession(
            base,
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
        )
        self._traced = traced
        self.available = False
        """Whether the runner is there."""
        self._watching = asyncio.create_task(self._watch())

    async def submit(
        self, model: str, tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False
    ) -> Tensors:
        """See `MicroBatcher.submit`.

        Raises:
            UnavailableError: the runner is starting or has died.
            OverloadedError: it has not got round to accepting its connections.
            ServingError: as the runner raised it.
        """
        if not self.available:
            raise self._unavailable()
        headers = {} if math.isinf(expires_in) else {_EXPIRES: f"{expires_in * 1e3:.0f}"}
        if alone:
            headers[_ALONE] = "1"
        if self._traced:
            propagate.inject(headers)
        try:
            async with self._session.post(f"{PATH}/{model}", data=to_bytes(tensors), headers=headers) as response:
                body = await response.read()
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno == errno.EAGAIN:
                # Not away, only behind: as many connections wait as the socket's backlog takes.
                raise OverloadedError("too many requests wait for the model; try again", retry_after=1) from error
            raise self._unavailable() from error
        except aiohttp.ClientError as error:
            raise self._unavailable() from error
        if response.status == 200:
            return from_bytes(body)
        if response.status != _REFUSED:
            raise RuntimeError(f"the runner answered {response.status}")
        failure = _decode_failure(body)
        raise _BY_CODE[failure.code](failure.message, retry_after=failure.retry_after)

    async def close(self) -> None:
        self._watching.cancel()
        await self._session.close()
        if self._handle is not None:
            os.close(self._handle)

    @staticmethod
    def _unavailable() -> UnavailableError:
        return UnavailableError("the model is not available just now; try again", retry_after=1)

    async def _watch(self) -> None:
        """Hold a connection to the runner, for as long as either of us lives."""
        while True:
            try:
                async with self._session.get(PATH) as response:
                    await response.content.readany()
                    self.available = response.status == 200
                    await response.read()
            except aiohttp.ClientError:
                pass  # it is starting, or has just died
            if self.available:
                logger.warning("lost the runner; waiting for it to come back")
                self.available = False
            await asyncio.sleep(_RECONNECT_SECONDS)
