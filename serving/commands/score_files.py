"""`serving batch score-files`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from serving.commands.batch_options import reading_options, show_bad_rows, skipped_text
from serving.commands.exits import DONE, FAILED, ROWS_FAILED, Failure
from serving.core.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from serving.batch.files.run import Runner
    from serving.batch.files.target import TargetFormat
    from serving.batch.reading.options import ReadOptions
    from serving.settings import Settings
    from serving.settings.models import ModelSettings
    from serving.store.models import StoredModel

_NEEDS_FILES = "score-files needs pyarrow: pip install 'model-serving[files]'"
# Packages whose errors are not OSErrors, such as those of object stores for missing credentials.
_STORES = ("botocore", "aiobotocore", "gcsfs", "google", "aiohttp")


@click.command("score-files")
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@click.option(
    "--model",
    "name",
    metavar="NAME",
    help="Model of rows. Default: `default_model` of the configuration, else the only model of rows.",
)
@reading_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "csv"]),
    help="Format of OUTPUT. Default: its suffix, else csv for CSV and parquet for others.",
)
@click.option(
    "--part-rows",
    type=click.IntRange(1_000),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="About how many rows a part has; a part is written as a whole.",
)
@click.option(
    "--batch-rows",
    type=click.IntRange(1),
    default=65_536,
    show_default=True,
    metavar="N",
    help="About how many rows an engine call has.",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Parts at a time on this machine. Default: one per core."
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Score on the Ray cluster at ADDRESS, such as head:6379; run this on one of its machines. `auto` finds it.",
)
@click.option(
    "--actors", type=click.IntRange(1), metavar="N", help="Engines in the Ray cluster. Default: one per free CPU."
)
def score_files(  # noqa: PLR0917 - click passes options by name
    source: str,
    target: str,
    name: str | None,
    options: ReadOptions,
    format_: TargetFormat | None,
    part_rows: int,
    batch_rows: int,
    threads: int | None,
    address: str | None,
    actors: int | None,
) -> int:
    """Score the rows of files (CSV, JSON lines, Parquet) with a model of rows.

    INPUT is a file, a directory or a glob, OUTPUT a directory of parts; both may be URLs such as s3://bucket/rows.
    The columns of INPUT are kept. A classification adds probabilities and label, a regression adds prediction, another
    model adds its outputs; all add model_tag and error. Rows that cannot be scored fail alone. The same command again
    scores the parts that are missing.
    """
    if threads is not None and address is not None:
        raise click.UsageError("--threads is for this machine and --ray for a cluster; use --actors with --ray")
    if actors is not None and address is None:
        raise click.UsageError("--actors goes with --ray")
    from serving.commands.batch_display import Bar, summarise
    from serving.commands.text import duration

    try:
        from serving.batch.files.run import plan, run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise Failure(FAILED, _NEEDS_FILES) from error
    with _as_failures():
        model, entry = _model(name)
        planned = plan(
            source,
            target,
            model,
            options=options,
            target_format=format_,
            part_rows=part_rows,
            batch_rows=batch_rows,
        )
        runner = _threads(model, entry, threads) if address is None else _ray(entry, address, actors)
        with Bar() as bar:
            rows = planned.rows_left
            if rows is not None:
                bar.start(lambda: rows)
            summary = run(planned, runner, tell=lambda good, bad: bar.advance(succeeded=good, failed=bad))
    text = (
        f"{summary.rows:,} rows in {summary.parts} parts, {summary.failed:,} failed, by {summary.model_tag}; "
        f"{summary.rows_per_second:,} rows/s for {duration(summary.seconds)}"
    )
    show_bad_rows(summary.first_failed, summary.failed)
    shown = {name: value for name, value in asdict(summary).items() if name != "first_failed"}
    summarise(shown, text + skipped_text(summary.skipped))
    return ROWS_FAILED if summary.failed else DONE


def _model(name: str | None) -> tuple[StoredModel, ModelSettings]:
    """The stored model to score with, and its entry for an engine of one thread: the parts use the cores."""
    from serving.commands.batch_options import served_model
    from serving.settings.reading import read_settings
    from serving.store.models import check_versions, open_model
    from serving.store.source import prepare_models

    settings = read_settings()
    prepare_models(settings)
    entry = settings.served[served_model(settings, name) or _only_model_of_rows(settings)]
    if entry.plugin:
        raise ConfigurationError(
            f"{entry.tag} has the plug-in {entry.plugin}, which score-files does not call; use `serving batch score`"
        )
    model = open_model(entry.tag)
    check_versions(model, strict=settings.server.strict_versions)
    return model, entry.model_copy(update={"threads": 1})


def _only_model_of_rows(settings: Settings) -> str:
    from serving.store.models import open_model

    found = [name for name, entry in settings.served.items() if open_model(entry.tag).metadata.kind == "rows"]
    if len(found) != 1:
        raise ConfigurationError(f"name a model of rows with --model: {', '.join(found) or 'there is none'}")
    return found[0]


def _threads(model: StoredModel, entry: ModelSettings, threads: int | None) -> Runner:
    from serving.batch.files.run import Threads
    from serving.core.engine import available_cores
    from serving.placement import open_engine

    return Threads(open_engine(model, entry), threads=threads or available_cores())


def _ray(entry: ModelSettings, address: str, actors: int | None) -> Runner:
    try:
        from serving.batch.files.on_ray import RayActors
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise Failure(FAILED, "--ray needs Ray: pip install 'model-serving[files,ray]'") from error
    return RayActors(entry, address=address, actors=actors)


@contextmanager
def _as_failures() -> Iterator[None]:
    """End the command with one line for errors that an operator can mend."""
    import pyarrow

    try:
        yield
    except (ConfigurationError, ModelError, OSError, pyarrow.ArrowException) as error:
        raise Failure(FAILED, str(error) or type(error).__name__) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORES:
            raise
        raise Failure(FAILED, str(error) or type(error).__name__) from error
