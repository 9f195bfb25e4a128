"""Work stops when the client that wants it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect


@asynccontextmanager
async def while_connected(receive: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects. The request's body has to be read before.

    Raises:
        ClientDisconnect: the client has gone, so that there is no one to answer.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone:
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
