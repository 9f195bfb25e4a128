"""Pauses between attempts at something that fails: longer each time, never the same for everybody."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress


class Backoff:
    """Seconds to wait: about `first`, doubled each time up to `most`, and jittered by half."""

    def __init__(self, *, first: float = 0.1, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def next(self) -> float:
        seconds = min(self._most, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - many workers shall not come back at once

    def reset(self) -> None:
        self._failures = 0


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` is set within `seconds`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
