"""An engine that can be held, to see what queues meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from serving.core.tensors import Tensors, count


class HeldEngine:
    """Predicts in a thread, one call at a time and only when `release` is called."""

    def __init__(self, predict: Callable[[Tensors], Tensors]) -> None:
        self._predict = predict
        self._calls: list[Tensors] = []
        self._entered = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def __call__(self, tensors: Tensors) -> Tensors:
        self._calls.append(tensors)
        self._entered.release()
        assert self._go.acquire(timeout=60)
        return self._predict(tensors)

    def release(self, calls: int = 1) -> None:
        self._go.release(calls)

    async def entered(self) -> None:
        """Wait until one more call has begun."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=60)

    @property
    def calls(self) -> list[list[float]]:
        """The first column of the first tensor of each call."""
        first = (next(iter(tensors.values())) for tensors in self._calls)
        return [array.reshape(len(array), -1)[:, 0].tolist() for array in first]

    @property
    def sizes(self) -> list[int]:
        """The rows of each call."""
        return [count(tensors) for tensors in self._calls]
