"""The practical limit: a bare ASGI application with orjson, and the checks that any answer needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson

from benchmarks.peers.model import IrisModel

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MODEL = IrisModel()
MAX_ROWS = 1024


def predict(body: bytes) -> tuple[int, bytes]:
    """Status and JSON answer for a JSON request."""
    try:
        rows = np.array(orjson.loads(body)["data"], dtype=np.float32)
    except (ValueError, TypeError, KeyError):
        return 422, b'{"detail":"data must be rows of numbers"}'
    if rows.ndim != 2 or rows.shape[1] != 4 or not 1 <= len(rows) <= MAX_ROWS or not np.isfinite(rows).all():
        return 422, b'{"detail":"data must be 1 to 1024 rows of 4 finite numbers"}'
    return 200, orjson.dumps({"prediction": MODEL.predict(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/predict" and scope["method"] == "POST":
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, answer = predict(body)
    elif scope["path"] == "/readyz":
        status, answer = 200, b'"ready"'
    else:
        status, answer = 404, b'{"detail":"not found"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
