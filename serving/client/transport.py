"""HTTP requests that are repeated while the server is away or busy."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from serving.client.address import Address
from serving.client.answers import ApiError, ClientError, UnreachableError, read_error
from serving.client.forks import PerProcess
from serving.client.tls import Tls

BUSY = frozenset({429, 502, 503, 504})
"""Statuses that pass by themselves: what the service says of its queues and outages, and proxies of the service."""

_ONE_ATTEMPT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
# What a request may take beyond the caller's limit, so that an answer that is on its way is not thrown away.
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """`None` is never."""
        return cls(float("inf") if seconds is None else time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self.at - time.monotonic())


@dataclass(frozen=True, slots=True)
class Answer:
    """`repeated` when an earlier try may have had its effect although its answer was lost."""

    response: httpx.Response
    repeated: bool


class Transport:
    """Connections to one server. `on_retry` is told why before a request is repeated."""

    def __init__(
        self,
        base_url: str,
        *,
        tls: Tls,
        headers: Mapping[str, str] | None,
        on_retry: Callable[[ClientError], None] | None,
    ) -> None:
        self._address = Address(base_url, tls, name="base_url")
        self._on_retry = on_retry
        self._http = PerProcess(lambda: self._address.open(headers))

    def close(self) -> None:
        if (http := self._http.take()) is not None:
            http.close()

    def request(self, method: str, path: str, *, deadline: Deadline, wait: float = 0.0, **content: Any) -> Answer:
        """Ask until there is an answer that will not change by itself, or `deadline`.

        Args:
            wait: seconds that the server takes on purpose.
            content: as `httpx.Client.request` takes it.

        Raises:
            UnreachableError: there was no answer, and another try would come after `deadline`.
            ApiError: the same of an answer whose status is one of `BUSY`.
        """
        pause, repeated = _FIRST_PAUSE_SECONDS, False
        while True:
            seconds = min(_ONE_ATTEMPT_SECONDS + wait, deadline.left() + _GRACE_SECONDS)
            try:
                response = self._http.get().request(method, path, timeout=seconds, **content)
            except httpx.RequestError as error:
                failure: ApiError | UnreachableError = self._address.failure(error, within=seconds)
                failure.__cause__ = error
            else:
                if response.status_code not in BUSY:
                    return Answer(response, repeated)
                failure = read_error(response)
            # 429 is said by who did nothing; behind any other failure the request may have had its effect.
            repeated |= not (isinstance(failure, ApiError) and failure.status == 429)
            spread = random.uniform(0.5, 1.5)  # noqa: S311 - so that clients do not come back all at once
            delay = pause * spread if failure.retry_after is None else failure.retry_after + pause * spread / 2
            if delay >= deadline.left():
                raise failure
            if self._on_retry is not None:
                self._on_retry(failure)
            time.sleep(delay)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
