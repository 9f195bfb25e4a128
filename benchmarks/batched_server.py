"""Measuring one server that batches: start-ups with a burst each, then rounds of load."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from benchmarks.batching_contenders import Contender
from benchmarks.burst import Burst, BurstPlan, measure_burst, median_burst
from benchmarks.load import Generator
from benchmarks.measurement import Plan, Point, Progress, Question, ask, load_rounds
from benchmarks.server import Running, Server, ServerError, running


@dataclass(frozen=True, slots=True)
class Batched:
    """What one server did. Memory is resident, of all its processes, in MB (10⁶ bytes); start-up in seconds."""

    server: Server
    points: Mapping[int, Point]
    burst: Burst
    start_seconds: float
    rss_mb: float

    def problems(self) -> list[str]:
        """One line for every load with anything but 2xx, or with nothing at all."""
        found = [
            f"{self.server.name} c{point.connections}: {point.non_2xx} non-2xx, {point.errors} errors"
            for point in self.points.values()
            if point.non_2xx or point.errors
        ]
        found += [
            f"{self.server.name} c{point.connections}: a round without any answer"
            for point in self.points.values()
            if not point.lowest
        ]
        if self.burst.non_2xx or self.burst.errors:
            found.append(f"{self.server.name} burst: {self.burst.non_2xx} non-2xx, {self.burst.errors} errors")
        return found


@dataclass(slots=True)
class Found:
    """Servers by name, those that failed, and what went wrong with peers, which is theirs to answer for."""

    servers: dict[str, Batched] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def measure_batched(
    contenders: Iterable[Contender], generator: Generator, plan: Plan, burst: BurstPlan, progress: Progress
) -> Found:
    """One server after the other; one that fails does not stop the others."""
    found = Found()
    for contender in contenders:
        try:
            batched = _measure(contender, generator, plan, burst, progress)
        except ServerError as error:
            found.failures.append(str(error))
            progress(f"FAILED {error}")
            continue
        found.servers[contender.server.name] = batched
        (found.remarks if contender.server.peer else found.failures).extend(batched.problems())
    return found


def _settle(up: Running, question: Question) -> None:
    """Wait for one answer of any status: a load leaves requests in the queue that are worked off before it."""
    up.request(question.method, up.server.path, question.headers, question.body)


def _measure(contender: Contender, generator: Generator, plan: Plan, burst: BurstPlan, progress: Progress) -> Batched:
    """`plan.starts` fresh servers with a burst each; the last one then gets the rounds.

    Raises:
        ServerError: it did not start, or its answer was wrong before or after the load.
    """
    server, question = contender.server, contender.question
    starts: list[float] = []
    bursts: list[Burst] = []
    while True:
        with running(server) as up:
            starts.append(up.start_seconds)
            ask(up, question)
            bursts.append(measure_burst(up, question, generator, burst))
            progress(
                f"{server.title}: ready after {starts[-1]:.2f} s, lone client p50 {bursts[-1].before_ms:.3f} ms, "
                f"after c{burst.connections} {bursts[-1].after_ms:.3f} ms"
            )
            if len(starts) < plan.starts:
                continue
            points = load_rounds(up, question, generator, plan, progress, settle=partial(_settle, up, question))
            _settle(up, question)
            ask(up, question)
            return Batched(
                server=server,
                points=points,
                burst=median_burst(bursts),
                start_seconds=statistics.median(starts),
                rss_mb=up.total_rss_mb(),
            )
