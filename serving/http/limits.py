"""No request body is read beyond the limit, with or without Content-Length."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.core.errors import PayloadTooLargeError
from serving.http.errors import error_response


class BodyLimitMiddleware:
    """Answers 413 from Content-Length before reading, and stops reading a body that has none.

    While streaming, `receive` raises PayloadTooLargeError through whoever reads the body; the endpoint's error
    handling answers it.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The server has checked that the header is a number.
        declared = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
        if declared > self._max_bytes:
            await error_response(self._error())(scope, receive, send)
            return
        read = 0

        async def limited_receive() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_bytes:
                    raise self._error()
            return message

        await self.app(scope, limited_receive, send)

    def _error(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"the body is larger than {self._max_bytes} bytes")
