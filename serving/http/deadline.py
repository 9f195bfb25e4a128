"""The time limit of a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.core.errors import DeadlineExceededError
from serving.http.exchange import Answer, Exchange, Handler


@asynccontextmanager
async def deadline(exchange: Exchange) -> AsyncIterator[None]:
    """Cancel the block when it takes longer than `server.request_timeout_seconds`.

    The client's `X-Request-Timeout-Ms` lowers the limit. `exchange.expires_in` tells it to whatever the block waits
    for, so that a queue behind it drops what no caller wants any more. The timer ends with the block.

    Raises:
        DeadlineExceededError: it took longer.
        InvalidInputError: the header is not a number.
    """
    limit = exchange.time_limit()
    exchange.deadline = time.monotonic() + limit
    try:
        async with asyncio.timeout(limit) as timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise DeadlineExceededError(f"not answered within {limit:g} seconds") from error


def timed(handler: Handler) -> Handler:
    """A handler that ends with the time limit of its request."""

    async def within_limit(exchange: Exchange) -> Answer:
        async with deadline(exchange):
            return await handler(exchange)

    return within_limit
