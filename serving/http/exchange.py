"""One HTTP request and its answer."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from serving.core.errors import DeadlineExceededError, InvalidInputError, PayloadTooLargeError
from serving.http.content_encoding import Decompressed

CLIENT_LEFT = 499
"""Status of a request that got no answer; nginx' name for it."""
TIMEOUT_HEADER = b"x-request-timeout-ms"
ID_HEADER = b"x-request-id"
_valid_id = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_PLAIN_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=UTF-8", b"")
_DISCARD_SECONDS, _SILENT_SECONDS = 10.0, 1.0
_DISCARD_BODIES = 8
"""So many times what a body may have is read of one that is too large, and thrown away."""
Headers = Iterable[tuple[bytes, bytes]]
JSON: Headers = ((b"content-type", b"application/json"),)


class Answer:
    """Status, headers and body of an answer; JSON unless the headers say otherwise."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes, status: int = 200, headers: Headers = JSON) -> None:
        self.body = body
        self.status = status
        self.headers = list(headers)

    def add(self, name: str, value: str) -> Answer:
        """Add a header."""
        self.headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
        return self


class Exchange:
    """One request while it is being answered; what a model has to know of it (`serving.model.Call`).

    Attributes:
        id: from `X-Request-ID`, or made; for logs and messages.
        parameters: those of the path.
        status: of the answer, once there is one.
        size: what is predicted, as `rows=3` or `pixels=307200`; the model or its codec fills it in.
        model: tag of the model that predicts.
        deadline: when the time limit ends, on the monotonic clock; set by `serving.http.deadline`.
    """

    __slots__ = (
        "_length",
        "_max_bytes",
        "_read",
        "_receive",
        "_source",
        "_time_limit",
        "deadline",
        "id",
        "is_last",
        "is_plain_json",
        "is_read",
        "model",
        "parameters",
        "scope",
        "size",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, *, max_bytes: int, time_limit: float) -> None:
        self.scope = scope
        self.parameters: Mapping[str, str] = {}
        self.status = CLIENT_LEFT
        self.size = "-"
        self.model: str | None = None
        self.deadline = math.inf
        self._receive = self._source = receive
        self.is_read = self.is_last = False
        """Whether nothing of the body is left, and whether the connection is closed after the answer."""
        self._max_bytes = max_bytes
        self._time_limit = time_limit
        self._read = 0
        self._length = 0
        request_id = encoding = b""
        self.is_plain_json = True
        """Whether it is said to be JSON in UTF-8, or nothing is said, and the client has no time limit of its own."""
        for name, value in scope["headers"]:
            if name == b"content-type":
                self.is_plain_json &= value in _PLAIN_JSON
            elif name == b"content-length":
                self._length = int(value)  # the server has checked that it is a number
            elif name == ID_HEADER:
                request_id = request_id or value
            elif name == TIMEOUT_HEADER:
                self.is_plain_json = False
            elif name == b"content-encoding":
                encoding += b"," + value
        if not request_id or not _valid_id(request_id):
            # Unique, not secret: the generator is seeded from the system for each process.
            request_id = b"%032x" % random.getrandbits(128)
        self.id = request_id.decode("ascii")
        if encoding:
            self._receive = Decompressed(receive, encoding, max_bytes=max_bytes)

    @property
    def path(self) -> str:
        path: str = self.scope["path"]
        return path

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header `name`, which is in lower case."""
        for key, value in self.scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return None

    @property
    def content_type(self) -> str:
        """The value of the header; empty where nothing is to be learned of it."""
        return "" if self.is_plain_json else (self.header(b"content-type") or b"").decode("latin-1")

    @property
    def query(self) -> QueryParams:
        """The parameters behind the question mark."""
        return QueryParams(self.scope["query_string"])

    async def receive(self) -> Message:
        """The next message of the server, within the limit of bytes; of a compressed body the bytes that it becomes.

        Raises:
            PayloadTooLargeError: the body is larger than it may be.
            UnsupportedMediaTypeError, MalformedRequestError: it is compressed in another way, or damaged.
        """
        message = await self._receive()
        if not message.get("more_body"):
            self.is_read = True
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._max_bytes:
                raise self._too_large()
        return message

    async def discard(self) -> None:
        """Read what is left of the body, for some seconds, as long as it comes and is not endless.

        A client that is still sending when the connection is closed hears of the reset, and not what was answered
        (RFC 9112, section 9.6).
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                left = _DISCARD_BODIES * self._max_bytes
                while left > 0 and not self.is_read:
                    async with asyncio.timeout(_SILENT_SECONDS):
                        message = await self._source()
                    left -= len(message.get("body", b""))
                    self.is_read = not message.get("more_body")

    def check_length(self) -> None:
        """Refuse a body by its Content-Length, before any of it is read.

        Raises:
            PayloadTooLargeError: it is larger than it may be.
        """
        if self._length > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"the body is larger than {self._max_bytes} bytes")

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            ClientDisconnect: the client has gone.
            PayloadTooLargeError: it is larger than it may be.
            DeadlineExceededError: it took longer to arrive than a request may take.
        """
        message = await self.receive()
        if not message.get("more_body"):
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body: bytes = message.get("body", b"")
            return body
        try:
            async with asyncio.timeout(self._time_limit):
                return await self._rest(message)
        except TimeoutError as error:
            raise DeadlineExceededError("the body took too long to arrive") from error

    async def _rest(self, message: Message) -> bytes:
        parts = [message.get("body", b"")]
        while message.get("more_body"):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
        return b"".join(parts)

    def request(self, body: bytes | None = None) -> Request:
        """As Starlette's request, with its body still to come, or `body` where that has been read."""
        return Request(self.scope, self.receive if body is None else _replay(body, self.receive))

    def expires_in(self) -> float:
        """Seconds until the time limit ends."""
        return self.deadline - time.monotonic()

    def time_limit(self) -> float:
        """Seconds that the answer may take: the server's limit, or less where the client says so.

        Raises:
            InvalidInputError: `X-Request-Timeout-Ms` is not a number of milliseconds above zero.
        """
        text = self.header(TIMEOUT_HEADER)
        if text is None:
            return self._time_limit
        if not text.isdigit() or len(text) > 9 or int(text) == 0:
            raise InvalidInputError("X-Request-Timeout-Ms: a whole number of milliseconds above zero is required")
        return min(int(text) / 1e3, self._time_limit)


Handler = Callable[[Exchange], Awaitable[Answer]]


def _replay(body: bytes, receive: Receive) -> Receive:
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed
