"""Talking to the server of the jobs, and waiting for jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from serving.commands.exits import DONE, FAILED, SERVER, TIMED_OUT, Failure

if TYPE_CHECKING:
    from serving.client import Client, ClientError, Job


@contextmanager
def connected(url: str, *, retry_for: float, on_retry: Callable[[ClientError], None] | None = None) -> Iterator[Client]:
    """A client whose errors end the command."""
    from serving.client import Client, ClientError, WaitTimeoutError
    from serving.commands.progress import LineProgress

    try:
        with Client(url, timeout=retry_for, on_retry=on_retry or LineProgress({}).trouble) as client:
            yield client
    except WaitTimeoutError as error:
        raise Failure(TIMED_OUT, str(error)) from error
    except ClientError as error:
        raise Failure(SERVER, str(error)) from error
    except ValueError as error:  # what was typed: not a URL, not a job id, not a number that JSON has
        raise click.UsageError(str(error)) from error


def follow(
    jobs: Sequence[Job], *, names: Sequence[str], url: str, retry_for: float, timeout: float | None, as_json: bool
) -> int:
    """Wait for the end of `jobs` and print what came of them, in their order; the exit status.

    `names` is what a display calls them besides their ids. Of jobs that have not ended in time the ids are in the
    error, and what came of the others has been printed.
    """
    from serving.client.answers import as_json as fields
    from serving.commands.progress import make_progress
    from serving.commands.text import dumps, line
    from serving.jobs.job import Status

    known = {job.id: job for job in jobs}
    shown = {job.id: f"{job.id} {name}".rstrip() for job, name in zip(jobs, names, strict=True)}
    progress = make_progress(shown)
    try:
        with progress, connected(url, retry_for=retry_for, on_retry=progress.trouble) as client:
            for job in jobs:
                progress.update(job)
            unfinished = [job.id for job in known.values() if not job.finished]
            for job in client.watch(unfinished, timeout=timeout, interval=progress.interval):
                known[job.id] = job
                progress.update(job)
    except KeyboardInterrupt:
        going_on = " ".join(job.id for job in known.values() if not job.finished)
        click.echo(f"serving: interrupted; to go on waiting: serving jobs wait {going_on}", err=True)
        raise click.Abort from None
    finally:
        for job in known.values():
            if job.finished:
                click.echo(dumps(fields(job)) if as_json else line(job))
    return DONE if all(job.status is Status.SUCCEEDED for job in known.values()) else FAILED
