"""The time limit of a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.core.errors import DeadlineExceededError
from serving.http.request import current_request
from serving.settings import get_settings


@asynccontextmanager
async def deadline() -> AsyncIterator[None]:
    """Cancel the block when it takes longer than `serving.request_timeout_seconds`.

    The client's `X-Request-Timeout-Ms` lowers the limit. What the block waits for is told by `expires_in` of the
    request, so that a queue behind it drops what nobody wants any more. The timer ends with the block.

    Raises:
        DeadlineExceededError: it took longer.
        InvalidInputError: the header is not a number.
    """
    request = current_request.get()
    limit = request.time_limit(get_settings().serving.request_timeout_seconds)
    request.deadline = time.monotonic() + limit
    try:
        async with asyncio.timeout(limit) as timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise DeadlineExceededError(f"not answered within {limit:g} seconds") from error
