"""`serving batch`: rows that lie in a database, scored in sets."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.commands.batch_options import Deadline, Duration, opened, scope_of, scope_options
from serving.commands.exits import DONE, FAILED, INTERRUPTED, ROWS_FAILED, TIMED_OUT, Failure
from serving.commands.score_files import score_files

if TYPE_CHECKING:
    from serving.batch.scope import Policy
    from serving.batch.scorer import Summary

_format = click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Of the file; as its name ends unless given.",
)


@click.group()
def batch() -> None:
    """Score what lies in a database: `batch.database_url` of the configuration, else the file batch.db."""


batch.add_command(score_files)


@batch.command()
def init() -> None:
    """Make the tables, or bring those of an older version up to date."""
    from serving.batch.migrate import migrate
    from serving.commands.batch_display import summarise

    with opened(tables=False) as (database, _):
        before, after = migrate(database)
        changed = "made" if before is None else "up to date" if before == after else f"migrated from {before}"
        summarise({"before": before, "after": after}, f"{database}: tables {changed}, version {after}")


@batch.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="iris", metavar="NAME", help="Of rows that name none; iris unless given.")
@_format
@click.option(
    "--columns",
    metavar="NAME,...",
    help="The columns that have the numbers, in the order of the model; all but `model`, or the JSON in a column "
    "`values`, unless given.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where lines go that cannot be scored; FILE.rejected beside the file unless given. It must not exist.",
)
def load(file: Path, model: str, form: Any, columns: str | None, rejects: Path | None) -> int:
    """Insert the rows of FILE (CSV, JSON lines, Parquet), all of the good ones or none.

    A line of JSON is a list of values, or an object with `values` and, unless it is that of --model, `model`. Lines
    that cannot be scored are rejected, with their number and the reason; the exit status is 3 then.
    """
    from serving.batch.loading import load as load_lines
    from serving.batch.reading import format_of, read_lines
    from serving.commands.batch_display import Bar, summarise

    rejected_to = rejects or file.with_name(f"{file.name}.rejected")
    with opened() as (database, _), Bar() as bar:
        lines = read_lines(file, form or format_of(file), columns=columns.split(",") if columns else None)
        done = load_lines(
            database,
            lines,
            model=model,
            rejects=rejected_to,
            advance=lambda good, bad: bar.advance(succeeded=good, failed=bad),
        )
    summary = {"loaded": done.loaded, "rejected": done.rejected, "rejects": str(rejected_to) if done.rejected else None}
    text = f"{done.loaded:,} rows loaded" + (f", {done.rejected:,} lines in {rejected_to}" if done.rejected else "")
    summarise(summary, text)
    return ROWS_FAILED if done.rejected else DONE


@batch.command()
@scope_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many rows in this run.")
@click.option(
    "--chunk-rows",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Rows of a transaction and of an engine call; `batch.chunk_rows` unless given.",
)
@click.option(
    "--on-failure",
    "policy",
    type=click.Choice(["retry-failed", "retry-all", "leave"]),
    default="retry-failed",
    help="Score failed rows again, all rows of the scope again in one transaction, or only those that never were; "
    "retry-failed unless given.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1),
    metavar="N",
    help="Leave rows that have failed so often; `batch.max_attempts` unless given.",
)
@click.option(
    "--deadline",
    type=Deadline(),
    metavar="TIME|DURATION",
    help="Begin nothing that would not be done by then, such as 2026-01-31T12:00+01:00 or 45m.",
)
@click.option(
    "--every", type=Duration(), metavar="DURATION", help="Go on: a run at each beat of so long, until SIGTERM."
)
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
    """Score rows that have no prediction. Any number of scorers may run at once, and each row is scored once.

    The exit status is 0 when all of the scope is scored, 3 when rows failed, 124 when the deadline came before.
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
        raise Failure(FAILED, f"{summary.remaining} rows are claimed by somebody who does nothing with them")
    if summary.outcome is Outcome.DONE:
        return ROWS_FAILED if summary.failed else DONE
    return TIMED_OUT if summary.outcome is Outcome.DEADLINE else INTERRUPTED


@batch.command()
@click.option(
    "--runs", "number", type=click.IntRange(0), default=5, metavar="N", help="Latest runs to show; 5 unless given."
)
def status(number: int) -> None:
    """Count rows by model and state, and show the latest runs."""
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
    help="Only rows in this state; predicted unless given.",
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
    """Write rows with their predictions to FILE, in the order of their ids; `-` is standard output."""
    from serving.batch.exporting import export as export_rows
    from serving.batch.reading import format_of
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
    """Make failed rows as they were before their first attempt; the next run scores them."""
    from serving.batch.state import retry as retry_rows
    from serving.commands.batch_display import summarise

    with opened() as (database, _):
        retried = retry_rows(database, scope_of(since, until, where_id, model))
    summarise({"retried": retried}, f"{retried:,} rows will be scored again")
