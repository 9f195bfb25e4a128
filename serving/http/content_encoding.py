"""Bodies of requests that are compressed (RFC 9110, section 8.4), decompressed while they arrive."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from starlette.types import Message, Receive

from serving.core.errors import MalformedRequestError, PayloadTooLargeError, UnsupportedEncodingError
from serving.core.validation import shortened

SUPPORTED = "gzip, deflate"
_PIECE_BYTES = 256 * 1024
"""Other requests go on after so much of a body."""
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three containers


class Decompressed:
    """A `receive` that gives the decompressed body of another, in small pieces however much a few bytes become.

    Args:
        encoding: the value of Content-Encoding.
        max_bytes: of the body as it arrives.
    """

    def __init__(self, receive: Receive, encoding: bytes, *, max_bytes: int) -> None:
        self._receive = receive
        names = [name.strip().lower() for name in encoding.decode("latin-1").split(",")]
        self._names = [name.removeprefix("x-") for name in names if name not in ("", "identity")]
        self._left = max_bytes
        self._stream: Any = None
        self._data = b""
        self._is_last = False
        self._has_more = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            UnsupportedEncodingError: the encoding is another, or one of several.
            MalformedRequestError: the body is not what its encoding says.
            PayloadTooLargeError: it is larger than it may be before it is decompressed.
        """
        if not self._names:
            return await self._receive()
        if self._has_more:
            await asyncio.sleep(0)
        else:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._data = message.get("body", b"")
            self._is_last = not message.get("more_body", False)
            self._left -= len(self._data)
            if self._left < 0:
                raise PayloadTooLargeError("the body is larger than it may be, before it is decompressed")
        body = self._next_piece() if self._data or self._stream is not None else b""
        return {"type": "http.request", "body": body, "more_body": self._has_more or not self._is_last}

    def _next_piece(self) -> bytes:
        if self._stream is None:
            self._stream = zlib.decompressobj(self._container(self._data[0]))
        try:
            piece: bytes = self._stream.decompress(self._data, _PIECE_BYTES)
        except zlib.error as error:
            raise MalformedRequestError(f"the body is not {self._names[0]}, as its content encoding says") from error
        self._data = self._stream.unconsumed_tail
        # What has been read may still become more than one piece.
        self._has_more = bool(self._data) or len(piece) == _PIECE_BYTES
        if self._stream.unused_data:
            raise MalformedRequestError(f"the body has bytes after the end of its {self._names[0]} stream")
        if self._is_last and not self._has_more and not self._stream.eof:
            raise MalformedRequestError(f"the body ends before its {self._names[0]} stream does")
        return piece

    def _container(self, first: int) -> int:
        if self._names == ["gzip"]:
            return _GZIP
        if self._names != ["deflate"]:
            raise UnsupportedEncodingError(
                f"content encoding {shortened(', '.join(self._names))} is not supported; send one of {SUPPORTED}, or "
                "the body as it is"
            )
        # Some programs call deflate what has no container; the first byte tells (RFC 1950).
        return _ZLIB if first & 0x0F == zlib.DEFLATED and first >> 4 < 8 else _RAW
