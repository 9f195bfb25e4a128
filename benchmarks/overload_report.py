"""What the overload benchmark says: tables and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.offered import Offered
from benchmarks.table import Table, figure, ratio
from benchmarks.targets import Target, targets_table


@dataclass(frozen=True, slots=True)
class Case:
    """A route, its queue bound, its sustainable rate in rows per second, and how many times that is wanted."""

    name: str
    path: str
    bound_rows: int
    sustained: float
    factor: float

    @property
    def bound_ms(self) -> float:
        """How long a full queue takes, in milliseconds."""
        return self.bound_rows / self.sustained * 1e3


@dataclass(frozen=True, slots=True)
class Overload:
    """Latencies in milliseconds, memory in MB (10⁶ bytes)."""

    case: Case
    offered: Offered
    lone_before_ms: float
    lone_after_ms: float
    rss_before_mb: float
    rss_peak_mb: float
    rss_after_mb: float


def tables(found: Sequence[Overload]) -> list[Table]:
    return [_answers(found), _latencies(found), _memory(found), targets_table(targets(found))]


def _answers(found: Sequence[Overload]) -> Table:
    rows = []
    for overload in found:
        case, offered = overload.case, overload.offered
        answers = sum(offered.statuses.values())
        rows.append(
            [
                *(case.path, figure(case.sustained, 1), figure(case.sustained * case.factor)),
                *(figure(offered.offered_per_second), figure(offered.seconds)),
                *(figure(offered.accepted), _share(offered.polite, answers)),
                *(figure(offered.statuses.get(504, 0)), figure(offered.improper)),
                *(_share(offered.no_connection, offered.scheduled), _share(offered.too_late, offered.scheduled)),
            ]
        )
    columns = (
        *("route", "sustainable per s", "wanted per s", "offered per s", "s", "2xx", "429 with Retry-After"),
        *("504", "anything else", "not sent: no connection", "not sent: too late"),
    )
    every = [
        f"`{overload.case.path}`: "
        + ", ".join(f"{count:,} × {status}" for status, count in overload.offered.statuses.items())
        + f", {overload.offered.broken:,} broken, {overload.offered.unanswered:,} unanswered"
        for overload in found
    ]
    return Table("Answers", columns, rows, every)


def _share(count: int, of: int) -> str:
    return f"{figure(count)} ({count / of:.1%})" if of else figure(count)


def _latencies(found: Sequence[Overload]) -> Table:
    columns = (
        *("route", "2xx p50 ms", "2xx p99 ms", "full queue, rows", "full queue, ms", "429 p99 ms", "sent late p99 ms"),
        *("drained after, s", "lone p50 before, ms", "after, ms"),
    )
    rows = [
        [
            *(overload.case.path, figure(overload.offered.accepted_p50_ms, 1)),
            *(figure(overload.offered.accepted_p99_ms, 1), figure(overload.case.bound_rows)),
            *(figure(overload.case.bound_ms), figure(overload.offered.refused_p99_ms, 1)),
            *(figure(overload.offered.lag_p99_ms, 1), figure(overload.offered.drained_seconds, 2)),
            *(figure(overload.lone_before_ms, 2), figure(overload.lone_after_ms, 2)),
        ]
        for overload in found
    ]
    return Table("Latency", columns, rows)


def _memory(found: Sequence[Overload]) -> Table:
    rows = [
        [
            *(overload.case.path, figure(overload.rss_before_mb), figure(overload.rss_peak_mb)),
            *(figure(overload.rss_after_mb), ratio(overload.rss_after_mb, overload.rss_before_mb)),
        ]
        for overload in found
    ]
    return Table(
        "Memory of all server processes", ("route", "before, MB", "peak, MB", "after, MB", "after/before"), rows
    )


def targets(found: Sequence[Overload]) -> list[Target]:
    """The project's targets for a server that is asked for ten times what it can."""
    return [target for overload in found for target in _targets(overload)]


def _targets(overload: Overload) -> list[Target]:
    case, offered = overload.case, overload.offered

    def at_most(what: str, bound: float, value: float, base: float, evidence: str) -> Target:
        return Target(f"{case.path}: {what}", bound, value / base, at_least=False, unit=" ×", evidence=evidence)

    return [
        Target(
            f"{case.path}: offered against sustainable",
            case.factor,
            # a request is sent or not: what rounding takes from the last one is not missing
            round(offered.offered_per_second / case.sustained, 2),
            at_least=True,
            unit=" ×",
            evidence=f"{offered.offered_per_second:,.0f} per s offered, {case.sustained:,.1f} sustainable",
        ),
        Target(
            f"{case.path}: not 2xx, 429 with Retry-After or 504", 0, offered.improper, at_least=False, unit=" answers"
        ),
        at_most(
            "p99 of the accepted against a full queue's work",
            *(2, offered.accepted_p99_ms, case.bound_ms),
            f"p99 {offered.accepted_p99_ms:,.0f} ms, {case.bound_rows} rows take {case.bound_ms:,.0f} ms",
        ),
        at_most(
            "memory afterwards against before",
            *(1.1, overload.rss_after_mb, overload.rss_before_mb),
            f"{overload.rss_before_mb:,.0f} MB before, {overload.rss_after_mb:,.0f} MB after",
        ),
        at_most(
            "lone client one second afterwards against before",
            *(1.1, overload.lone_after_ms, overload.lone_before_ms),
            f"p50 {overload.lone_before_ms:.2f} ms before, {overload.lone_after_ms:.2f} ms after",
        ),
    ]
