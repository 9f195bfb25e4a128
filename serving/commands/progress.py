"""Showing on standard error how jobs come along, so that standard output has nothing but results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import click

from serving.client import ClientError, Job, Status
from serving.commands.exits import one_line
from serving.commands.text import COLOURS, duration, outcome, state

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_MOST_ROWS = 12
"""Jobs that have a line each; of more there are counts and a bar."""


class Progress(Protocol):
    """A display of jobs, for the length of a `with` block."""

    interval: float
    """How often it wants to hear of every job, in seconds."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def update(self, job: Job) -> None: ...
    def trouble(self, error: ClientError) -> None:
        """A request is about to be repeated."""


def make_progress(names: Mapping[str, str]) -> Progress:
    """A live display on a terminal, else lines. `names` has what to call each job, by id, in order."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return _LiveProgress(names, console)
    return LineProgress(names)


class LineProgress:
    """A line for each change."""

    interval = 5.0

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._shown: dict[str, Status] = {}
        self._trouble = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing has to be put back."""

    def update(self, job: Job) -> None:
        self._trouble = ""
        if self._shown.get(job.id) is not job.status:
            self._shown[job.id] = job.status
            click.echo(" ".join(filter(None, (self._names[job.id], job.status, state(job)))), err=True)

    def trouble(self, error: ClientError) -> None:
        text = one_line(f"{error}; trying again")
        if text != self._trouble:  # once for an outage, not for each try
            self._trouble = text
            click.echo(f"serving: {text}", err=True)


class _LiveProgress:
    """Lines that change where they stand."""

    interval = 1.0

    def __init__(self, names: Mapping[str, str], console: Console) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._names = names
        self._jobs: dict[str, Job] = {}
        self._trouble = ""
        self._began = time.monotonic()
        self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8)
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        self._shown.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._trouble = ""
        self._shown.close()

    def update(self, job: Job) -> None:
        self._trouble = ""
        self._jobs[job.id] = job

    def trouble(self, error: ClientError) -> None:
        self._trouble = one_line(f"{error}; trying again")

    def _render(self) -> RenderableType:
        # Called by rich's thread; replacing a value of a dict is atomic, and the keys are those of `names`.
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        jobs = [self._jobs.get(job_id) for job_id in self._names]
        parts: list[RenderableType] = []
        if len(jobs) <= _MOST_ROWS:
            table = Table.grid(padding=(0, 1))
            for name, job in zip(self._names.values(), jobs, strict=True):
                table.add_row(*self._row(name, job))
            parts.append(table)
        else:
            ended = sum(job is not None and job.finished for job in jobs)
            parts.append(ProgressBar(total=len(jobs), completed=ended, width=40))
        if len(jobs) > 1:
            parts.append(self._summary([job for job in jobs if job is not None], len(jobs)))
        if self._trouble:
            parts.append(Text(self._trouble, "yellow", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _row(self, name: str, job: Job | None) -> tuple[RenderableType, ...]:
        from rich.text import Text

        elapsed = duration(time.monotonic() - self._began)
        if job is None:
            return self._spinner, Text(name), Text(""), Text(elapsed)
        status = Text(job.status, COLOURS[job.status])
        if not job.finished:
            return self._spinner, Text(name), status, Text(", ".join(filter(None, (state(job), elapsed))))
        why = "" if job.status is Status.SUCCEEDED else outcome(job)
        return Text(" "), Text(name), status, Text(": ".join(filter(None, (state(job), why))))

    def _summary(self, jobs: list[Job], total: int) -> RenderableType:
        from rich.text import Text

        counts = Counter(job.status for job in jobs)
        ended = sum(counts[status] for status in Status if status.finished)
        parts = [Text(f"{ended} of {total} ended")]
        parts += [Text(f"{counts[status]} {status}", COLOURS[status]) for status in Status if counts[status]]
        return Text(", ").join([*parts, Text(duration(time.monotonic() - self._began))])
