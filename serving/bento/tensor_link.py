"""Arrays between the API and a runner: both ends of one small HTTP exchange on BentoML's Unix socket.

`depends()` names the runners and BentoML starts them; its client pickles, opens a schema for each answer and
pools connections in a way that loses requests. Here the body is the array itself: dtype and row shape are
the model's, so the number of rows follows from the length. A client that closes its connection takes its rows out
of the runner's queue.

Request: `POST /tensor/predict` (alone) or `/tensor/predict_batched`, `X-Expires-In-Ms` milliseconds.
Answer: 200 and the output array, or 422 and `{"code", "message", "retry_after"}` of one of our errors.

`GET /tensor/alive` is answered and then stays open for as long as the process lives. BentoML's supervisor holds the
listening socket, so without it a call to a dead runner would hang in the socket's backlog.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray
from opentelemetry import propagate
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.core import errors
from serving.core.errors import OverloadedError, ServingError, UnavailableError
from serving.http.disconnect import while_connected

logger = logging.getLogger("serving.bento.tensor_link")

Rows = NDArray[Any]
ALONE = "/tensor/predict"
BATCHED = "/tensor/predict_batched"
ALIVE = "/tensor/alive"
_EXPIRES = "x-expires-in-ms"
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


class Submit(Protocol):
    """How rows reach a model: a batcher here, or the runner that has one."""

    async def __call__(self, rows: Rows, *, expires_in: float = math.inf, alone: bool = False) -> Rows: ...


class TensorPlane:
    """ASGI middleware of a runner: answers the tensor routes, passes everything else on.

    Args:
        submit: called once for the runner's batcher, which exists only after start.
        dtype, row_shape: of the model's input.
    """

    def __init__(
        self, app: ASGIApp, *, submit: Callable[[], Submit], dtype: DTypeLike, row_shape: tuple[int, ...]
    ) -> None:
        self.app = app
        self._submit = cache(submit)
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (ALONE, BATCHED, ALIVE):
            await self.app(scope, receive, send)
            return
        if scope["path"] == ALIVE:
            await _stay(receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        rows = np.frombuffer(body, self._dtype).reshape(-1, *self._row_shape)
        expires_in = next(
            (float(value) / 1e3 for name, value in scope["headers"] if name == _EXPIRES.encode()), math.inf
        )
        try:
            async with while_connected(receive):
                output = await self._submit()(rows, expires_in=expires_in, alone=scope["path"] == ALONE)
        except ClientDisconnect:
            return
        except ServingError as error:
            failure = _Failure(error.code, error.message, error.retry_after)
            await _send(send, 422, b"application/json", msgspec.json.encode(failure))
            return
        await _send(send, 200, b"application/octet-stream", np.ascontiguousarray(output).tobytes())


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
    """The API's end: `submit` as if the batcher were here.

    While the runner is starting or has died every call fails at once. Make it in a running loop.

    Args:
        url: `file:///…/x.sock` or `tcp://host:port`, as BentoML names its runners.
        dtype, row_shape: of the model's output.
        traced: send the trace context along.
    """

    def __init__(self, url: str, *, dtype: DTypeLike, row_shape: tuple[int, ...], traced: bool) -> None:
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
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._traced = traced
        self.available = False
        """Whether the runner is there."""
        self._watching = asyncio.create_task(self._watch())

    async def submit(self, rows: Rows, *, expires_in: float = math.inf, alone: bool = False) -> Rows:
        """See `MicroBatcher.submit`.

        Raises:
            UnavailableError: the runner is starting or has died.
            OverloadedError: it has not got round to accepting its connections.
            ServingError: as the runner raised it.
        """
        if not self.available:
            raise self._unavailable()
        headers = {} if math.isinf(expires_in) else {_EXPIRES: f"{expires_in * 1e3:.0f}"}
        if self._traced:
            propagate.inject(headers)
        try:
            async with self._session.post(
                ALONE if alone else BATCHED, data=np.ascontiguousarray(rows).tobytes(), headers=headers
            ) as response:
                body = await response.read()
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno == errno.EAGAIN:
                # Not away, only behind: as many connections wait as the socket's backlog takes.
                raise OverloadedError("too many requests wait for the model; try again", retry_after=1) from error
            raise self._unavailable() from error
        except aiohttp.ClientError as error:
            raise self._unavailable() from error
        if response.status == 200:
            return np.frombuffer(body, self._dtype).reshape(-1, *self._row_shape)
        if response.status != 422:
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
                async with self._session.get(ALIVE) as response:
                    await response.content.readany()
                    self.available = response.status == 200
                    await response.read()
            except aiohttp.ClientError:
                pass  # it is starting, or has just died
            if self.available:
                logger.warning("lost the runner; waiting for it to come back")
                self.available = False
            await asyncio.sleep(_RECONNECT_SECONDS)
