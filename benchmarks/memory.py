"""The memory of a server while something else happens to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

INTERVAL = 0.25
"""Seconds between two looks."""


class PeakMemory:
    """A context in which a thread asks `sample` again and again; `peak` is the largest answer, in its unit."""

    def __init__(self, sample: Callable[[], float], interval: float = INTERVAL) -> None:
        self._sample = sample
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0.0

    def __enter__(self) -> PeakMemory:
        self.peak = self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.peak = max(self.peak, self._sample())

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            self.peak = max(self.peak, self._sample())
