"""Speaking ASGI by hand, for what an HTTP client hides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

Headers = Iterable[tuple[str, str]]


class Body:
    """A `receive` that hands out chunks and counts what was taken before the answer, and what after it.

    Then the client waits for its answer; with `then_leave` it disconnects instead, in the middle of its body. It
    also disconnects where a test sets `gone`.
    """

    def __init__(self, *chunks: bytes, then_leave: bool = False) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": then_leave or index < len(chunks) - 1}
            for index, chunk in enumerate(chunks)
        ]
        self.taken = self.discarded = 0
        self.answer: Answer | None = None
        self.gone = asyncio.Event()
        if then_leave:
            self.gone.set()

    async def __call__(self) -> dict[str, Any]:
        if not self._messages:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        message = self._messages.pop(0)
        if self.answer is None or not self.answer.starts:
            self.taken += len(message["body"])
        else:
            self.discarded += len(message["body"])
        return message


class Trickle:
    """A `receive` that begins a body and never ends it."""

    def __init__(self) -> None:
        self._first = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def __call__(self) -> dict[str, Any]:
        if not self._first:
            await asyncio.Event().wait()
        return self._first.pop()


class Answer:
    """A `send` that keeps what was sent."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.body = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.starts.append(message)
        else:
            self.body += message.get("body", b"")

    @property
    def status(self) -> int:
        (start,) = self.starts
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        (start,) = self.starts
        return {name.decode().lower(): value.decode() for name, value in start["headers"]}


def scope(
    path: str, *, method: str = "POST", headers: Headers = (("content-type", "application/json"),)
) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }


async def ask(app: Any, path: str, body: Any, **more: Any) -> Answer:
    """Send one request to `app`; `body` is a `receive`."""
    answer = Answer()
    if isinstance(body, Body):
        body.answer = answer
    await app(scope(path, **more), body, answer)
    return answer
