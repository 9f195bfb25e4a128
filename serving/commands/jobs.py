"""`serving jobs`: submit jobs, follow them, and see what the server has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from serving.commands import given
from serving.commands.exits import DONE
from serving.commands.job_waiting import connected, follow

if TYPE_CHECKING:
    from serving.client import Client, Job

_DEFAULT_URL = "http://127.0.0.1:3000"
_STATUSES = ("queued", "running", "succeeded", "failed", "expired", "cancelled")

_url = click.option(
    "--url",
    envvar="SERVING_URL",
    default=_DEFAULT_URL,
    metavar="URL",
    help=f"The server. Default: $SERVING_URL, else {_DEFAULT_URL}.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object on a line for each job.")
_retry_for = click.option(
    "--retry-for",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a request is repeated while the server is away or busy.",
)
_timeout = click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer. Default: no limit."
)
_job_ids = click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator; `--help` has them in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group()
def jobs() -> None:
    """Submit jobs, follow them, and see what the server has."""


@jobs.command()
@click.argument("model")
@_options(
    click.option(
        "--rows", metavar="JSON", help="Rows as lists or as objects by column, such as '[[5.1, 3.5, 1.4, 0.2]]'."
    ),
    click.option("--tensors", metavar="JSON", help="Tensors by name, such as '{\"user\": [[1.0, 0.5]]}'."),
    click.option("--file", type=click.File("rb"), help="File with rows or tensors as JSON; `-` is standard input."),
    click.option(
        "--image",
        "images",
        multiple=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Image file; each one that is given is a job.",
    ),
    click.option("--top-k", type=click.IntRange(1), metavar="N", help="Classes to name for an image."),
    click.option("--max-retries", type=click.IntRange(0), metavar="N", help="Attempts after the first."),
    click.option(
        "--ttl",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="Expire the job unless it starts within this time.",
    ),
    click.option(
        "--idempotency-key", metavar="KEY", help="The same key and input make one job, however often it is submitted."
    ),
    click.option("--wait", is_flag=True, help="Wait for the end of the jobs and print their results."),
    _timeout,
    _json,
    _url,
    _retry_for,
)
def submit(  # noqa: PLR0917 - click passes options by name
    model: str,
    rows: str | None,
    tensors: str | None,
    file: IO[bytes] | None,
    images: tuple[Path, ...],
    top_k: int | None,
    max_retries: int | None,
    ttl: float | None,
    idempotency_key: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    url: str,
    retry_for: float,
) -> int:
    """Submit a job for MODEL and print its id; with several images, several jobs."""
    if [rows is not None, tensors is not None, file is not None, bool(images)].count(True) != 1:
        raise click.UsageError("one of --rows, --tensors, --file and --image is required")
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")
    if idempotency_key is not None and len(images) > 1:
        raise click.UsageError("--idempotency-key is for one job, and each image is one")
    inputs: list[dict[str, Any]]
    if file is not None:
        inputs = [given.read_file(file)]
    elif rows is not None:
        inputs = [given.from_json(given.read_json(rows))]
    elif tensors is not None:
        inputs = [given.read_tensors(tensors)]
    else:
        inputs = [{"image": path} for path in images]
    options = {"top_k": top_k, "idempotency_key": idempotency_key, "max_retries": max_retries, "ttl_seconds": ttl}
    submitted: list[Job] = []
    try:
        with connected(url, retry_for=retry_for) as client:
            for body in inputs:
                job = _submit(client, model, **options, **body)
                submitted.append(job)
                if not wait:
                    _print(job, as_json=as_json, text=job.id)
    except BaseException:
        if wait and submitted:  # nobody has been told of these yet, and they go on
            click.echo(f"serving: submitted before that: {' '.join(job.id for job in submitted)}", err=True)
        raise
    if not wait:
        return DONE
    names = [path.name for path in images] or [model]
    return follow(submitted, names=names, url=url, retry_for=retry_for, timeout=timeout, as_json=as_json)


@jobs.command()
@_job_ids
@_options(_json, _url, _retry_for)
def status(job_ids: tuple[str, ...], as_json: bool, url: str, retry_for: float) -> None:
    """Print what the server knows of jobs."""
    from serving.commands.text import description

    with connected(url, retry_for=retry_for) as client:
        for number, job_id in enumerate(job_ids):
            job = client.get(job_id)
            _print(job, as_json=as_json, text="\n" * (number > 0) + "\n".join(description(job)))


@jobs.command()
@_job_ids
@_options(_timeout, _json, _url, _retry_for)
def wait(job_ids: tuple[str, ...], timeout: float | None, as_json: bool, url: str, retry_for: float) -> int:
    """Wait until jobs have ended and print their results.

    Progress goes to standard error. Once the server has answered, its outages do not end the waiting.
    """
    with connected(url, retry_for=retry_for) as client:
        known = [client.get(job_id) for job_id in dict.fromkeys(job_ids)]
    names = [job.model or "" for job in known]
    return follow(known, names=names, url=url, retry_for=retry_for, timeout=timeout, as_json=as_json)


@jobs.command()
@_job_ids
@_options(_json, _url, _retry_for)
def cancel(job_ids: tuple[str, ...], as_json: bool, url: str, retry_for: float) -> None:
    """Cancel queued or running jobs; a running one's result is dropped."""
    _each(job_ids, lambda client, job_id: client.cancel(job_id), as_json=as_json, url=url, retry_for=retry_for)


@jobs.command()
@_job_ids
@_options(_json, _url, _retry_for)
def retry(job_ids: tuple[str, ...], as_json: bool, url: str, retry_for: float) -> None:
    """Queue failed or expired jobs again."""
    _each(job_ids, lambda client, job_id: client.retry(job_id), as_json=as_json, url=url, retry_for=retry_for)


@jobs.command("list")
@_options(
    click.option("--status", type=click.Choice(_STATUSES), help="Only jobs in this state."),
    click.option("--model", metavar="NAME", help="Only jobs of this model."),
    click.option(
        "--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="Most jobs to list."
    ),
    _json,
    _url,
    _retry_for,
)
def list_jobs(  # noqa: PLR0917 - click passes options by name
    status: str | None, model: str | None, limit: int, as_json: bool, url: str, retry_for: float
) -> None:
    """List jobs, newest first."""
    from serving.commands.text import jobs_table

    with connected(url, retry_for=retry_for) as client:
        found = list(client.jobs(status=status, model=model, limit=limit))
    if as_json:
        for job in found:
            _print(job, as_json=True, text="")
    else:
        click.echo("\n".join(jobs_table(found)))


@jobs.command()
@_options(click.option("--json", "as_json", is_flag=True, help="Print one JSON object."), _url, _retry_for)
def stats(as_json: bool, url: str, retry_for: float) -> None:
    """Count jobs by model and state."""
    from dataclasses import asdict

    from serving.commands.text import dumps, stats_table

    with connected(url, retry_for=retry_for) as client:
        figures = client.stats()
    if as_json:
        click.echo(dumps({model: asdict(numbers) for model, numbers in figures.items()}))
    else:
        click.echo("\n".join(stats_table(figures)))


def _submit(client: Client, model: str, **inputs: Any) -> Job:
    try:
        return client.submit(model, **inputs)
    except OSError as error:
        raise click.UsageError(f"{inputs['image']}: {error.strerror}") from error


def _each(
    job_ids: Sequence[str], action: Callable[[Client, str], Job], *, as_json: bool, url: str, retry_for: float
) -> None:
    with connected(url, retry_for=retry_for) as client:
        for job_id in job_ids:
            job = action(client, job_id)
            _print(job, as_json=as_json, text=f"{job.id} {job.status}")


def _print(job: Job, *, as_json: bool, text: str) -> None:
    from serving.client.answers import as_json as fields
    from serving.commands.text import dumps

    click.echo(dumps(fields(job)) if as_json else text)
