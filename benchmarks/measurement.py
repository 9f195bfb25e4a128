"""Measuring one server: start-ups, rounds of load, memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Generator, Load, LoadResult
from benchmarks.server import Running, Server, ServerError, running

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Question:
    """The one request of a benchmark, and what its answer must be: `check` raises `ValueError` on a wrong one."""

    headers: Mapping[str, str]
    body: bytes
    check: Callable[[bytes], None]
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often: `seconds` of load for each of `connections` in every one of `rounds`."""

    connections: Sequence[int]
    rounds: int
    seconds: float
    warm_up_seconds: float = 1.0
    starts: int = 3

    def total_seconds(self) -> float:
        return self.rounds * len(self.connections) * self.seconds + self.warm_up_seconds


@dataclass(frozen=True, slots=True)
class Point:
    """The rounds at one number of connections: medians, the slowest and fastest round, sums of what went wrong."""

    connections: int
    requests_per_second: float
    lowest: float
    highest: float
    p50_ms: float
    p99_ms: float
    non_2xx: int
    errors: int

    @classmethod
    def of(cls, connections: int, rounds: Sequence[LoadResult]) -> Point:
        rates = [result.requests_per_second for result in rounds]
        return cls(
            connections=connections,
            requests_per_second=statistics.median(rates),
            lowest=min(rates),
            highest=max(rates),
            p50_ms=statistics.median(result.p50_ms for result in rounds),
            p99_ms=statistics.median(result.p99_ms for result in rounds),
            non_2xx=sum(result.non_2xx for result in rounds),
            errors=sum(result.errors for result in rounds),
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one server did. Memory is resident, in MB (10⁶ bytes), after the load; start-up is a median, in seconds."""

    server: Server
    points: Mapping[int, Point]
    start_seconds: float
    worker_rss_mb: float
    total_rss_mb: float

    def failures(self) -> list[str]:
        """One line for every number of connections with anything but 2xx."""
        return [
            f"{self.server.name} c{point.connections}: {point.non_2xx} non-2xx, {point.errors} errors"
            for point in self.points.values()
            if point.non_2xx or point.errors
        ]


@dataclass(slots=True)
class Outcome:
    """All measurements of a benchmark by server name, and what failed."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def measure_all(
    servers: Iterable[Server], question: Question, generator: Generator, plan: Plan, progress: Progress
) -> Outcome:
    """The servers one after the other; one that fails does not stop the others."""
    outcome = Outcome()
    for server in servers:
        try:
            measurement = measure(server, question, generator, plan, progress)
        except ServerError as error:
            outcome.failures.append(str(error))
            progress(f"FAILED {error}")
        else:
            outcome.measurements[server.name] = measurement
            outcome.failures += measurement.failures()
    return outcome


def measure(server: Server, question: Question, generator: Generator, plan: Plan, progress: Progress) -> Measurement:
    """Start it `plan.starts` times and load it during the last.

    A round goes through all numbers of connections in ascending order, so that from the second round on a
    lone client is measured after a burst.

    Raises:
        ServerError: it did not start, or its answer was wrong before or after the load.
    """
    starts = []
    for _ in range(plan.starts - 1):
        with running(server) as up:
            starts.append(up.start_seconds)
    with running(server) as up:
        starts.append(up.start_seconds)
        progress(f"{server.title}: ready after {starts[-1]:.2f} s")
        ask(up, question)
        points = load_rounds(up, question, generator, plan, progress)
        ask(up, question)
        return Measurement(
            server=server,
            points=points,
            start_seconds=statistics.median(starts),
            worker_rss_mb=up.worker_rss_mb(),
            total_rss_mb=up.total_rss_mb(),
        )


def load_rounds(
    up: Running,
    question: Question,
    generator: Generator,
    plan: Plan,
    progress: Progress,
    *,
    path: str | None = None,
    settle: Callable[[], object] = lambda: None,
) -> dict[int, Point]:
    """Warm up, then the rounds; a point for each number of connections.

    `path` is the server's unless given; `settle` is called before each load of a round.
    """

    (points,) = load_in_turn([up], question, generator, plan, progress, path=path, settle=settle)
    return points


def load_in_turn(
    ups: Sequence[Running],
    question: Question,
    generator: Generator,
    plan: Plan,
    progress: Progress,
    *,
    path: str | None = None,
    settle: Callable[[], object] = lambda: None,
) -> list[dict[int, Point]]:
    """As `load_rounds` for servers that run at once: each load is put on one after the other before the next one."""

    def load(up: Running, connections: int, seconds: float) -> LoadResult:
        return generator.run(
            Load(
                url=up.url(path),
                connections=connections,
                seconds=seconds,
                method=question.method,
                headers=question.headers,
                body=question.body,
            )
        )

    if plan.warm_up_seconds:
        for up in ups:
            load(up, max(plan.connections), plan.warm_up_seconds)
    results: list[dict[int, list[LoadResult]]] = [{connections: [] for connections in plan.connections} for _ in ups]
    for number in range(1, plan.rounds + 1):
        for connections in plan.connections:
            for up, found in zip(ups, results, strict=True):
                settle()
                result = load(up, connections, plan.seconds)
                found[connections].append(result)
                name = f"{up.server.name} " if len(ups) > 1 else ""
                wrong = f", {result.non_2xx} non-2xx, {result.errors} errors" if result.non_2xx or result.errors else ""
                progress(
                    f"  round {number} {name}c{connections}: {result.requests_per_second:,.1f} req/s, "
                    f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms{wrong}"
                )
    return [{connections: Point.of(connections, rounds) for connections, rounds in found.items()} for found in results]


def ask(up: Running, question: Question, path: str | None = None) -> None:
    """Ask once and check the answer: a fast wrong answer is not worth measuring.

    Raises:
        ServerError: another status than 200, or a wrong answer.
    """
    path = path or up.server.path
    status, answer = up.request(question.method, path, question.headers, question.body)
    if status != 200:
        raise ServerError(f"{up.server.name}: {path} answers {status}: {answer[:500].decode(errors='replace')}")
    try:
        question.check(answer)
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError(f"{up.server.name}: {path} answers {answer[:500]!r}, which is wrong: {error}") from error
