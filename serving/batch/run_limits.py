"""Ending a run between two chunks: on a signal, or before a deadline."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from serving.batch.runs import Outcome


class StoppedError(Exception):
    """The run ends here, between two chunks."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Stopper:
    """Decides when a run stops. `stop` may be called from a signal handler or another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._end: float | None = None
        self._longest = 0.0

    def stop(self) -> None:
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def end_in(self, seconds: float) -> None:
        """Set the deadline: a chunk that cannot be done within `seconds` is not begun."""
        self._end = time.monotonic() + seconds

    def took(self, seconds: float) -> None:
        """A chunk took this long; the next one may take as long."""
        self._longest = max(self._longest, seconds)

    def check(self) -> None:
        """Raises StoppedError when the next chunk must not be begun."""
        if self._stop.is_set():
            raise StoppedError(Outcome.INTERRUPTED)
        if self._end is not None and time.monotonic() + self._longest >= self._end:
            raise StoppedError(Outcome.DEADLINE)

    def sleep(self, seconds: float) -> None:
        """Raises StoppedError when the run has to stop meanwhile."""
        if self._end is not None:
            seconds = min(seconds, max(0.0, self._end - time.monotonic()))
        self._stop.wait(seconds)
        self.check()


@contextmanager
def stop_on_signals(stopper: Stopper) -> Iterator[None]:
    """SIGTERM and the first Ctrl-C let the current chunk finish; the next Ctrl-C does not."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stopper.stopped:
            raise KeyboardInterrupt
        stopper.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
