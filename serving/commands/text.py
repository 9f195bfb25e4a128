"""Jobs and figures as text for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from serving.client.answers import Job
from serving.commands.exits import one_line
from serving.jobs.job import ModelStats, Status

_WIDEST = 100_000
"""Columns of a line of a table."""
COLOURS = {
    Status.QUEUED: "blue",
    Status.RUNNING: "cyan",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.EXPIRED: "yellow",
    Status.CANCELLED: "yellow",
}


def dumps(value: Any) -> str:
    """JSON in one line, as the service writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def outcome(job: Job) -> str:
    """How a job ended: its result as JSON, or why there is none."""
    if job.status is Status.SUCCEEDED:
        return one_line(dumps(job.result))
    return one_line(f"{job.error.message} ({job.error.code})") if job.error else ""


def state(job: Job) -> str:
    """Where an unfinished job stands, or how long a finished one took from its submission."""
    if job.finished:
        if job.created_at is None or job.finished_at is None:
            return ""
        return f"after {duration((job.finished_at - job.created_at).total_seconds())}"
    if job.status is Status.RUNNING:
        return f"attempt {job.attempts}" if (job.attempts or 0) > 1 else ""
    if job.next_attempt_at is not None:
        return f"waits for attempt {(job.attempts or 0) + 1}"
    return "" if job.position is None else f"{job.position} before it"


def line(job: Job) -> str:
    """`id status …` with the outcome of a finished job, where the job stands otherwise."""
    rest = outcome(job) if job.finished else state(job)
    return " ".join(part for part in (job.id, click.style(job.status, COLOURS[job.status]), rest) if part)


def description(job: Job) -> Iterator[str]:
    """All that is known of a job, a line each."""
    shown = click.style(job.status, COLOURS[job.status])
    yield f"{'job':<10} {job.id}"
    yield f"{'model':<10} {job.model}"
    yield f"{'status':<10} {' '.join(filter(None, (shown, state(job))))}"
    if job.attempts is not None and job.max_retries is not None:
        yield f"{'attempts':<10} {job.attempts} of at most {job.max_retries + 1}"
    times = (
        ("submitted", job.created_at),
        ("started", job.started_at),
        ("next try", job.next_attempt_at),
        ("finished", job.finished_at),
        ("expires", None if job.finished or job.started_at else job.expires_at),
    )
    for name, at in times:
        if at is not None:
            yield f"{name:<10} {moment(at)}"
    if text := outcome(job):
        yield f"{'result' if job.status is Status.SUCCEEDED else 'error':<10} {text}"


def jobs_table(jobs: Sequence[Job]) -> Iterator[str]:
    rows = [
        [
            job.id,
            job.model or "",
            job.status.value,
            "" if job.attempts is None else str(job.attempts),
            "" if job.created_at is None else moment(job.created_at),
            "" if job.error is None else one_line(f"{job.error.message} ({job.error.code})"),
        ]
        for job in jobs
    ]
    yield from table(["JOB", "MODEL", "STATUS", "ATTEMPTS", "SUBMITTED", "ERROR"], rows)


def stats_table(stats: Mapping[str, ModelStats]) -> Iterator[str]:
    rows = [
        [
            model,
            *(str(figures.counts[status]) for status in Status),
            duration(figures.oldest_queued_seconds) if figures.counts[Status.QUEUED] else "",
            f"{figures.finished_per_second:.3g}",
        ]
        for model, figures in stats.items()
    ]
    yield from table(["MODEL", *(status.upper() for status in Status), "OLDEST QUEUED", "FINISHED/S"], rows)


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d} min"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; they are as long as they have to be, as other programs read them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for row in (header, *rows):
        grid.add_row(*(Text(cell, no_wrap=True, overflow="ignore") for cell in row))
    console = Console(width=_WIDEST, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(grid)
    yield from (line.rstrip() for line in captured.get().splitlines())
