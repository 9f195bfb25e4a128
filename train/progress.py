"""What a training script tells its user."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Reporter:
    """Steps with their time, results and warnings; with `quiet` none of them, errors always.

    On a terminal a running step shows a spinner and the elapsed time; elsewhere each step is one plain line
    when it is done.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        # The streams of now: whoever redirects `sys.stdout` later silences a library, not this.
        self._out = Console(file=sys.stdout, quiet=quiet, highlight=False, soft_wrap=True)
        self._err = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._quiet = quiet

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show that the body is at work on `title`, and afterwards how many seconds it took."""
        start = time.perf_counter()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(
            *columns,
            console=self._out,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=self._quiet or not self._out.is_terminal,
        ) as progress:
            progress.add_task(title, total=None)
            yield
        self.say(f"{title} … {time.perf_counter() - start:.1f} s")

    def say(self, message: str) -> None:
        """A line on standard output."""
        self._out.print(message, markup=False)

    def warn(self, message: str) -> None:
        """A line on standard error that cannot be overlooked."""
        if not self._quiet:
            self._err.print(f"WARNING: {message}", style="bold yellow", markup=False)

    def error(self, message: str) -> None:
        """A line on standard error, also when quiet."""
        self._err.print(f"error: {message}", style="bold red", markup=False)
