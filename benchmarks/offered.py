"""What the open-loop generator is asked for, and what became of it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """`rate` requests per second for `seconds` at even distances, over at most `connections`.

    What has no answer `patience` seconds after the last request was due is counted as unanswered.
    """

    url: str
    rate: float
    seconds: float
    connections: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Offered:
    """What became of the load.

    Attributes:
        seconds: how long requests were sent.
        scheduled: requests that were to be sent; `no_connection` and `too_late` of them were not.
        statuses: answers by status.
        polite: the answers with 429 and a Retry-After of whole seconds.
        broken: requests whose connection was refused, closed without an answer, or carried no HTTP.
        unanswered: requests that were still waiting when patience was over.
        accepted_p50_ms, accepted_p99_ms, refused_p99_ms: from the scheduled time, of 2xx and of 429.
        lag_p99_ms: how late requests were sent, the generator's own part of the latencies.
        drained_seconds: from the last request's time to the last answer.
        ended_at: the time of the last answer, in seconds of the epoch.
    """

    seconds: float
    scheduled: int
    sent: int
    no_connection: int
    too_late: int
    statuses: Mapping[int, int]
    polite: int
    broken: int
    unanswered: int
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_p99_ms: float
    lag_p99_ms: float
    drained_seconds: float
    ended_at: float

    @property
    def accepted(self) -> int:
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def offered_per_second(self) -> float:
        return self.sent / self.seconds

    @property
    def improper(self) -> int:
        """What is neither 2xx, nor 429 with Retry-After, nor 504."""
        proper = self.accepted + self.polite + self.statuses.get(504, 0)
        return sum(self.statuses.values()) - proper + self.broken + self.unanswered


@dataclass(slots=True)
class Tally:
    """The answers as they come; times are in seconds of one clock."""

    statuses: Counter[int] = field(default_factory=Counter)
    polite: int = 0
    broken: int = 0
    accepted: array[float] = field(default_factory=lambda: array("d"))
    refused: array[float] = field(default_factory=lambda: array("d"))
    lags: array[float] = field(default_factory=lambda: array("d"))
    last: float = 0.0

    def answer(self, status: int, polite: bool, due: float, now: float) -> None:
        """`polite`: it has a Retry-After; `due`: when the request was to be sent."""
        self.statuses[status] += 1
        self.last = now
        if 200 <= status < 300:
            self.accepted.append((now - due) * 1e3)
        elif status == 429:
            self.refused.append((now - due) * 1e3)
            self.polite += polite
