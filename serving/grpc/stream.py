"""Streams of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def until(event: asyncio.Event, requests: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The requests of a stream until it ends or the event is set, for which none of them is waited any longer."""
    ended = asyncio.ensure_future(event.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(requests, None))
            try:
                await asyncio.wait({following, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
            request = following.result() if following.done() and not following.cancelled() else None
            if request is None:
                return
            yield request
    finally:
        ended.cancel()
