"""A bound on the requests that one process holds for a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter

from serving.core.errors import OverloadedError

_SMOOTHING = 0.1
_LONGEST_RETRY_SECONDS = 60


class Admission:
    """Lets at most `limit` requests in; the next one is told when to come back.

    `Retry-After` is the time that the requests which are held will take at the rate measured while there
    was work, at least one second.
    """

    def __init__(self, limit: int, *, rejected: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._rejected = rejected
        self._clock = clock
        self._held = 0
        self._busy_since = 0.0
        self._seconds_per_request = 0.0

    def check(self, places: int = 1) -> None:
        """Turn a request away before anything is spent on it; without an `await` in between, `admit` agrees.

        Raises:
            OverloadedError: not enough places are free.
        """
        if self._held and self._held + places > self._limit:
            self._rejected.inc()
            raise OverloadedError(
                f"{self._held} requests are waiting already; try again later", retry_after=self.retry_after()
            )

    @contextmanager
    def admit(self, places: int = 1) -> Iterator[None]:
        """Hold a place, or one for each of several images, while a request is being answered.

        A request for more places than there are is let in when nothing else is held.

        Raises:
            OverloadedError: not enough places are free.
        """
        self.check(places)
        if self._held == 0:
            self._busy_since = self._clock()
        self._held += places
        try:
            yield
        finally:
            self._held -= places
            now = self._clock()
            elapsed, self._busy_since = (now - self._busy_since) / places, now
            self._seconds_per_request += _SMOOTHING * (elapsed - self._seconds_per_request)

    def retry_after(self) -> int:
        """Seconds until the requests that are held will have been answered, 1 to 60."""
        return min(max(1, math.ceil(self._held * self._seconds_per_request)), _LONGEST_RETRY_SECONDS)
