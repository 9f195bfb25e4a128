"""What a burst leaves behind: the latency of a lone client before it and one second after it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load import Generator, Load, LoadResult
from benchmarks.measurement import Question
from benchmarks.server import Running

PAUSE_SECONDS = 1.0
"""Between the end of a burst and the lone client."""


@dataclass(frozen=True, slots=True)
class BurstPlan:
    """Seconds of a lone client to warm up, of the lone client that is measured, and of the burst."""

    warm_up_seconds: float = 1.0
    lone_seconds: float = 2.0
    burst_seconds: float = 3.0
    connections: int = 32


@dataclass(frozen=True, slots=True)
class Burst:
    """The median latencies of a lone client in milliseconds, and what was not 2xx in its answers or in the burst."""

    before_ms: float
    after_ms: float
    non_2xx: int = 0
    errors: int = 0

    @property
    def growth(self) -> float:
        """How many times as long it takes afterwards."""
        return self.after_ms / self.before_ms


def measure_burst(up: Running, question: Question, generator: Generator, plan: BurstPlan) -> Burst:
    """Lone client, burst, pause, lone client: on a server that has not seen more than one client yet."""

    def load(connections: int, seconds: float) -> LoadResult:
        return generator.run(
            Load(
                url=up.url(),
                connections=connections,
                seconds=seconds,
                method=question.method,
                headers=question.headers,
                body=question.body,
            )
        )

    load(1, plan.warm_up_seconds)
    before = load(1, plan.lone_seconds)
    burst = load(plan.connections, plan.burst_seconds)
    time.sleep(PAUSE_SECONDS)
    after = load(1, plan.lone_seconds)
    results = (before, burst, after)
    return Burst(
        before_ms=before.p50_ms,
        after_ms=after.p50_ms,
        non_2xx=sum(result.non_2xx for result in results),
        errors=sum(result.errors for result in results),
    )


def median_burst(bursts: Sequence[Burst]) -> Burst:
    """The burst with the median growth, the smaller of the two in the middle; what went wrong is summed."""
    typical = sorted(bursts, key=lambda burst: burst.growth)[(len(bursts) - 1) // 2]
    return Burst(
        typical.before_ms,
        typical.after_ms,
        non_2xx=sum(burst.non_2xx for burst in bursts),
        errors=sum(burst.errors for burst in bursts),
    )
