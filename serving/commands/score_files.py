"""`serving batch score-files`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from serving.commands.exits import DONE, FAILED, ROWS_FAILED, Failure
from serving.core.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from serving.batch.files.run import Runner
    from serving.store.models import StoredModel

_NEEDS_FILES = "score-files needs pyarrow: pip install 'model-serving[files]'"
# Errors of object stores that are no OSError, such as a lack of credentials, by the package that raises them.
_STORES = ("botocore", "aiobotocore", "gcsfs", "google", "aiohttp")


@click.command("score-files")
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@click.option(
    "--columns",
    metavar="NAME,...",
    help="The columns with the features, in the order of the model. Found by their names unless given.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "csv"]),
    help="Of OUTPUT; as its name ends, or as INPUT, unless given.",
)
@click.option(
    "--part-rows",
    type=click.IntRange(1_000),
    default=1_000_000,
    metavar="N",
    help="About so many rows in a part, which is done as a whole; 1,000,000 unless given.",
)
@click.option(
    "--batch-rows",
    type=click.IntRange(1),
    default=65_536,
    metavar="N",
    help="About so many rows in an engine call; 65,536 unless given.",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Parts at a time on this machine; one per core unless given."
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Score on the Ray cluster at this address, such as head:6379, from one of its machines; `auto` finds it.",
)
@click.option(
    "--actors", type=click.IntRange(1), metavar="N", help="Engines in the Ray cluster; one per free CPU unless given."
)
def score_files(  # noqa: PLR0917 - click passes options by name
    source: str,
    target: str,
    columns: str | None,
    format_: str | None,
    part_rows: int,
    batch_rows: int,
    threads: int | None,
    address: str | None,
    actors: int | None,
) -> int:
    """Score the rows of Parquet or CSV files with the iris model.

    INPUT is a file, a directory or a glob, OUTPUT a directory of parts; both may be URLs such as s3://bucket/rows.
    The columns of INPUT are kept; probabilities, label, model_tag and error are added. Rows that cannot be scored
    fail alone. The same command again does what is missing.
    """
    if threads is not None and address is not None:
        raise click.UsageError("--threads is for this machine, and --ray for others: see --actors")
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
        model = _model()
        planned = plan(
            source,
            target,
            model,
            columns=columns.split(",") if columns else (),
            target_format=format_,  # type: ignore[arg-type]  # click has judged it
            part_rows=part_rows,
            batch_rows=batch_rows,
        )
        runner = _threads(model, threads) if address is None else _ray(model, address, actors)
        with Bar() as bar:
            rows = planned.rows_left
            if rows is not None:
                bar.start(lambda: rows)
            summary = run(planned, runner, tell=lambda good, bad: bar.advance(succeeded=good, failed=bad))
    text = (
        f"{summary.rows:,} rows in {summary.parts} parts, {summary.failed:,} failed, by {summary.model_tag}; "
        f"{summary.rows_per_second:,} rows/s for {duration(summary.seconds)}"
    )
    summarise(asdict(summary), text)
    return ROWS_FAILED if summary.failed else DONE


def _model() -> StoredModel:
    from serving.settings.reading import read_settings
    from serving.store.models import check_versions, open_model
    from serving.store.source import prepare_models

    settings = read_settings()
    prepare_models(settings)
    model = open_model(settings.iris.tag)
    check_versions(model, strict=settings.serving.strict_versions)
    return model


def _threads(model: StoredModel, threads: int | None) -> Runner:
    from serving.batch.files.run import Threads
    from serving.engines import IrisEngine
    from serving.engines.session import available_cores

    # one thread in a call: the parts use the cores
    return Threads(IrisEngine(model, threads=1), threads=threads or available_cores())


def _ray(model: StoredModel, address: str, actors: int | None) -> Runner:
    try:
        from serving.batch.files.on_ray import RayActors
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise Failure(FAILED, "--ray needs Ray: pip install 'model-serving[files,ray]'") from error
    return RayActors(model, address=address, actors=actors)


@contextmanager
def _as_failures() -> Iterator[None]:
    """What an operator can do something about is one line, and not a traceback."""
    import pyarrow

    from serving.batch.files import FilesError

    try:
        yield
    except (FilesError, ConfigurationError, ModelError, OSError, pyarrow.ArrowException) as error:
        raise Failure(FAILED, str(error) or type(error).__name__) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORES:
            raise
        raise Failure(FAILED, str(error) or type(error).__name__) from error
