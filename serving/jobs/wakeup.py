"""Waiting in an event loop until a condition holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeup:
    """Wakes waiters whenever the state changes, so that they check their conditions again. For one event loop."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """The state has changed. Never waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds."""
        while not condition():
            await self._changed.wait()
