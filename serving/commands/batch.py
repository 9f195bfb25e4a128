"""`serving batch`: score rows of a database in sets."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.commands.batch_options import (
    Deadline,
    Duration,
    opened,
    reading_options,
    rejects_of,
    require_input,
    scope_of,
    scope_options,
    served_model,
    show_bad_rows,
    skipped_text,
)
from serving.commands.exits import DONE, FAILED, INTERRUPTED, ROWS_FAILED, TIMED_OUT, Failure
from serving.commands.score_files import score_files

if TYPE_CHECKING:
    from serving.batch.reading.options import ReadOptions
    from serving.batch.scope import Policy
    from serving.batch.scorer import Summary

_format = click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Format of INPUT or FILE. Default: its suffix.",
)


@click.group()
def batch() -> None:
    """Score the rows of a database: `batch.database_url` of the configuration, else the file batch.db."""


batch.add_command(score_files)


@batch.command()
def init() -> None:
    """Make the tables, or migrate those of an older version."""
    from serving.batch.migrate import migrate
    from serving.commands.batch_display import summarise

    with opened(tables=False) as (database, _):
        before, after = migrate(database)
        changed = "made" if before is None else "up to date" if before == after else f"migrated from {before}"
        summarise({"before": before, "after": after}, f"{database}: tables {changed}, version {after}")


@batch.command()
@click.argument("source", metavar="INPUT")
@click.option(
    "--model",
    metavar="NAME",
    help="Model for rows that do not name one. Default: `default_model` of the configuration.",
)
@_format
@reading_options
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File for the lines that cannot be scored; it must not exist. Default: INPUT.rejected, beside INPUT; of a "
    "glob or URL rows.rejected.",
)
def load(source: str, model: str | None, form: Any, options: ReadOptions, rejects: Path | None) -> int:
    """Insert the good rows of INPUT (CSV, JSON lines, Parquet), all of them or none.

    INPUT is a file, a directory or a glob, or a URL of one, as of score-files. A line of JSON is a list of values, an
    object by column name, or an object with `values` and, unless --model is right for it, `model`. CSV and Parquet may
    have these as columns too. Lines that cannot be scored are rejected, with their number and the reason; the exit
    status is then 3.
    """
    from serving.batch.checks import RowChecks
    from serving.batch.loading import load as load_lines
    from serving.batch.reading.lines import read_lines
    from serving.batch.reading.sources import find_source
    from serving.commands.batch_display import Bar, summarise

    require_input(source)
    with opened() as (database, settings), Bar() as bar:
        found = find_source(source, form)
        rejected_to = rejects or rejects_of(source)
        checks = RowChecks.of(settings)
        default = served_model(settings, model)
        done = load_lines(
            database,
            read_lines(found, options, lambda name: checks.table(name or default)),
            model=default,
            check=checks.check,
            rejects=rejected_to,
            advance=lambda good, bad: bar.advance(succeeded=good, failed=bad),
        )
    show_bad_rows(done.first_rejects, done.rejected)
    summary = {
        "loaded": done.loaded,
        "rejected": done.rejected,
        "rejects": str(rejected_to) if done.rejected else None,
        "skipped": found.skipped,
    }
    text = f"{done.loaded:,} rows loaded" + (f", {done.rejected:,} lines in {rejected_to}" if done.rejected else "")
    summarise(summary, text + skipped_text(found.skipped))
    return ROWS_FAILED if done.rejected else DONE


@batch.command()
@scope_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Most rows to score in this run.")
@click.option(
    "--chunk-rows",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Rows that are claimed, scored and committed together. Default: `batch.chunk_rows`.",
)
@click.option(
    "--on-failure",
    "policy",
    type=click.Choice(["retry-failed", "retry-all", "leave"]),
    default="retry-failed",
    show_default=True,
    help="retry-failed scores failed rows again; retry-all scores all rows of the scope again, in one transaction; "
    "leave scores only rows that were never scored.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1),
    metavar="N",
    help="Leave rows that have failed this often. Default: `batch.max_attempts`.",
)
@click.option(
    "--deadline",
    type=Deadline(),
    metavar="TIME|DURATION",
    help="Begin no chunk that would not be done by this time, such as 2026-01-31T12:00+01:00 or 45m.",
)
@click.option("--every", type=Duration(), metavar="DURATION", help="Repeat the run every DURATION until SIGTERM.")
def score(  # noqa: PLR0917 - click passes options by name
    since: datetime | None,
    until: datetime | None,
    where_id: tuple[int | None, int | None] | None,
    model: str | None,
    limit: int | None,
    chunk_rows: int | None,
    policy: Policy,
    max_attempts: int | None,
    deadline: datetime | timedelta | None,
    every: float | None,
) -> int:
    """Score rows that have no prediction. Any number of scorers may run at once; each row is scored once.

    The exit status is 0 when all rows of the scope are scored, 3 when rows failed, and 124 when the deadline came
    first.
    """
    from serving.batch.scorer import Plan
    from serving.commands.batch_runs import Runner

    if every is not None and isinstance(deadline, datetime):
        raise click.UsageError("--deadline has to be a duration with --every")
    with opened(idle=True) as (database, settings):
        batch_settings = settings.batch
        plan = Plan(
            scope=scope_of(since, until, where_id, model),
            policy=policy,
            chunk_rows=chunk_rows or batch_settings.chunk_rows,
            max_attempts=max_attempts or batch_settings.max_attempts,
            limit=limit,
            lease_seconds=batch_settings.lease_seconds,
            retry_seconds=batch_settings.retry_seconds,
        )
        runner = Runner(database, settings, plan, deadline)
        if every is not None:
            runner.repeat(every)
            return DONE
        return status_of(runner.once())


def status_of(summary: Summary) -> int:
    """The exit status of a run."""
    from serving.batch.runs import Outcome

    if summary.outcome is Outcome.BLOCKED:
        raise Failure(FAILED, f"{summary.remaining} rows are claimed by another scorer, which does not score them")
    if summary.outcome is Outcome.DONE:
        return ROWS_FAILED if summary.failed else DONE
    return TIMED_OUT if summary.outcome is Outcome.DEADLINE else INTERRUPTED


@batch.command()
@click.option(
    "--runs",
    "number",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    metavar="N",
    help="How many of the latest runs to show.",
)
def status(number: int) -> None:
    """Show the numbers of rows by model and state, and the latest runs."""
    from serving.batch.state import items_by_model, latest_runs
    from serving.commands.batch_display import summarise
    from serving.commands.batch_text import status_text

    with opened() as (database, _):
        items, runs = items_by_model(database), latest_runs(database, number)
    summarise({"items": items, "runs": runs}, status_text(items, runs))


@batch.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@_format
@scope_options
@click.option(
    "--status",
    "state",
    type=click.Choice(["predicted", "unpredicted", "failed", "all"]),
    default="predicted",
    show_default=True,
    help="Only rows in this state.",
)
def export(  # noqa: PLR0917 - click passes options by name
    file: Path,
    form: Any,
    since: datetime | None,
    until: datetime | None,
    where_id: tuple[int | None, int | None] | None,
    model: str | None,
    state: str,
) -> None:
    """Write rows with their predictions to FILE, in the order of their ids. `-` is standard output."""
    from serving.batch.exporting import export as export_rows
    from serving.batch.exporting import format_of
    from serving.batch.tables import Status
    from serving.commands.batch_display import Bar, summarise

    target = None if str(file) == "-" else file
    with opened() as (database, _), Bar() as bar:
        exported = export_rows(
            database,
            target,
            form or ("jsonl" if target is None else format_of(file)),
            scope=scope_of(since, until, where_id, model),
            status=None if state == "all" else Status(state),
            advance=lambda rows: bar.advance(succeeded=rows, failed=0),
        )
    if target is not None:
        summarise({"exported": exported}, f"{exported:,} rows in {file}")


@batch.command()
@scope_options
def retry(
    since: datetime | None,
    until: datetime | None,
    where_id: tuple[int | None, int | None] | None,
    model: str | None,
) -> None:
    """Reset failed rows to their state before the first attempt, so that the next run scores them."""
    from serving.batch.persistence import Persistent
    from serving.batch.state import retry as retry_rows
    from serving.commands.batch_display import summarise

    with opened() as (database, settings):
        # A scorer that writes the same rows may win.
        persistent = Persistent(database, seconds=settings.batch.retry_seconds)
        retried = persistent(lambda: retry_rows(database, scope_of(since, until, where_id, model)))
    summarise({"retried": retried}, f"{retried:,} rows will be scored again")
