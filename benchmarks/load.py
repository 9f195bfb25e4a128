"""What every load generator takes and gives back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

REQUEST_TIMEOUT = 30.0
"""Seconds after which a generator that knows time-outs counts a request as an error."""


class LoadError(Exception):
    """A load generator could not run, or said something that cannot be read."""


@dataclass(frozen=True, slots=True)
class Load:
    """The same request again and again over keep-alive connections, each with one request under way.

    `seconds` is how long; generators that count whole seconds round it.
    """

    url: str
    connections: int
    seconds: float
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`requests_per_second` counts every answered request; latencies are in milliseconds (NaN without an answer).

    `non_2xx` counts answers with another status, `errors` requests without an answer: refused or broken
    connections and time-outs. What was under way when the time was up is neither.
    """

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    non_2xx: int
    errors: int


class Generator(Protocol):
    """A program, or a coroutine, that puts a `Load` on a server."""

    @property
    def name(self) -> str:
        """The name for the results, with the version where it is known."""

    def run(self, load: Load) -> LoadResult:
        """Put the load on the server and wait for its end.

        Raises:
            LoadError: the generator failed; a server that fails is in the result instead.
        """


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value that `share` (0–1) of the ascending values do not exceed; NaN of none (nearest rank)."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
