"""The hard limit on the time of an attempt: a call that hangs in an engine can only be ended with its process."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

logger = logging.getLogger("serving.jobs.watchdog")

EXIT_TIME_LIMIT = 75
"""Exit code of a worker process that has ended itself because an attempt took too long."""
_BACKSTOP_SECONDS = 1.0


def end_process() -> None:
    """Without clean-up: what hangs would hang there too."""
    logging.shutdown()
    os._exit(EXIT_TIME_LIMIT)


class Watchdog:
    """Ends the process when something that it watches takes longer than `seconds`.

    Args:
        end: ends the process; called in the watchdog's thread.
        backstop: let a timer of the interpreter's, which needs no interpreter lock, end the process a second
            later: for an engine that hangs and keeps the lock, so that no thread gets to run.
    """

    def __init__(self, seconds: float, *, end: Callable[[], None] = end_process, backstop: bool = True) -> None:
        self._seconds = seconds
        self._end = end
        self._backstop = backstop
        self._changed = threading.Condition()
        # In the order in which they began, so the first one is the next to reach the limit.
        self._watched: dict[object, tuple[float, Sequence[str]]] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def watch(self, job_ids: Sequence[str]) -> Iterator[None]:
        """The block has `seconds`; the log names the jobs when it takes longer."""
        token = object()
        with self._changed:
            self._watched[token] = (time.monotonic() + self._seconds, job_ids)
            self._rearm()
        try:
            yield
        finally:
            with self._changed:
                del self._watched[token]
                self._rearm()

    def _rearm(self) -> None:
        self._changed.notify()
        if not self._backstop:
            return
        if self._watched:
            left = self._next()[0] - time.monotonic()
            faulthandler.dump_traceback_later(max(left, 0) + _BACKSTOP_SECONDS, exit=True)
        else:
            faulthandler.cancel_dump_traceback_later()

    def _next(self) -> tuple[float, Sequence[str]]:
        return next(iter(self._watched.values()))

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                if not self._watched:
                    self._changed.wait()
                    continue
                deadline, job_ids = self._next()
                left = deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                logger.error(
                    "jobs %s: the attempt took longer than %g s; this worker process ends",
                    ", ".join(job_ids),
                    self._seconds,
                )
                self._end()
                return
