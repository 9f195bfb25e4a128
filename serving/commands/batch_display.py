"""Showing how a batch command comes along: a bar on a terminal, else nothing but one JSON line at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from serving.commands.exits import one_line

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """Rows that are done, on standard error: how many a second, and for how long still. For a `with` block."""

    def __init__(self) -> None:
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        self._progress = _bar(console) if console.is_terminal and not console.is_dumb_terminal else None
        self._task: Any = None
        self._failed = 0
        self._trouble = ""

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task("", total=None, failed="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def start(self, total: Callable[[], int]) -> None:
        if self._progress is not None:  # nobody else wants to know, and counting takes a while
            self._progress.update(self._task, total=total())

    def advance(self, *, succeeded: int, failed: int) -> None:
        self._trouble = ""
        if self._progress is not None:
            self._failed += failed
            text = f"{self._failed:,} failed" if self._failed else ""
            self._progress.update(self._task, advance=succeeded + failed, failed=text)

    def trouble(self, message: str) -> None:
        text = one_line(message)
        if text == self._trouble:  # once for an outage, not for each try
            return
        self._trouble = text
        if self._progress is not None:
            self._progress.console.print(f"serving: {text}", markup=False)
        else:
            click.echo(f"serving: {text}", err=True)


def _bar(console: Any) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} rows/s" if speed else "")

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        console=console,
    )


def summarise(summary: dict[str, Any], text: str) -> None:
    """What came of it: `text` for people on a terminal, else one line of JSON."""
    import msgspec  # has times too

    click.echo(text if sys.stdout.isatty() else msgspec.json.encode(summary).decode())
