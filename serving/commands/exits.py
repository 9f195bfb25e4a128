"""How a command of `serving` ends: exit statuses, and errors in one line."""

from __future__ import annotations

import click

DONE = 0
FAILED = 1
DIFFERENT = 1
USAGE = 2
SERVER = 3
ROWS_FAILED = 3
TIMED_OUT = 124
INTERRUPTED = 130

MEANING = {
    DONE: "done",
    FAILED: "a job that was waited for failed, expired or was cancelled, "
    "a worker or a batch command could not run or go on, a model cannot be served, or inventories differ",
    USAGE: "wrong usage",
    SERVER: "the server cannot be reached, or answers with an error; of `serving batch`: some rows failed",
    TIMED_OUT: "the time to wait was over, or the deadline came before all rows were scored",
    INTERRUPTED: "interrupted; jobs that were submitted go on",
}

EXPLAINED = f"Exit status: {'; '.join(f'{status} {meaning}' for status, meaning in MEANING.items())}."


class Failure(click.ClickException):
    """Ends the command with `exit_code` after `message` in one line on standard error."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


def one_line(text: str) -> str:
    """`text` without line breaks and without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
