"""An engine that can be held, to see what queues meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]


class HeldEngine:
    """Predicts in a thread, one call at a time and only when `release` is called."""

    def __init__(self, predict: Callable[[Rows], Rows]) -> None:
        self._predict = predict
        self._calls: list[Rows] = []
        self._entered = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def __call__(self, rows: Rows) -> Rows:
        self._calls.append(rows)
        self._entered.release()
        assert self._go.acquire(timeout=60)
        return self._predict(rows)

    def release(self, calls: int = 1) -> None:
        self._go.release(calls)

    async def entered(self) -> None:
        """Wait until one more call has begun."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=60)

    @property
    def calls(self) -> list[list[float]]:
        """The first column of each call."""
        return [rows[:, 0].tolist() for rows in self._calls]

    @property
    def sizes(self) -> list[int]:
        """The rows of each call."""
        return [len(rows) for rows in self._calls]
