"""What the commands of `serving batch` share: the database, the options of a scope, times and durations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.commands.exits import FAILED, Failure

if TYPE_CHECKING:
    from serving.batch.database import Database
    from serving.batch.scope import Scope
    from serving.settings import Settings

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Moment(_Type):
    """A time in ISO 8601; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-01-31T12:00 or 2026-01-31T12:00+01:00", param, ctx)
        return read if read.tzinfo else read.replace(tzinfo=UTC)


class Duration(_Type):
    """Seconds, as `90s`, `10m`, `1h`, `1d` or `1h30m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = _DURATION.findall(value)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != value or not 1 <= seconds <= 366 * 86_400:
            self.fail(f"{value!r} is not a duration such as 90s, 10m, 1h30m or 1d", param, ctx)
        return seconds


class Deadline(_Type):
    """A time, or a duration from now."""

    name = "deadline"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        if _DURATION.match(value):
            return timedelta(seconds=Duration().convert(value, param, ctx))
        return Moment().convert(value, param, ctx)


class IdRange(_Type):
    """`A..B`, with both ends included; either may be left out."""

    name = "range"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{0,18})\.\.(\d{0,18})", value, re.ASCII)
        if found is None or value == "..":
            self.fail(f"{value!r} is not a range of ids such as 1..1000, 1000.. or ..1000", param, ctx)
        first, last = (int(end) if end else None for end in found.groups())
        return first, last


def scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--since`, `--until`, `--where-id` and `--model`, whose values `scope_of` takes."""
    options = [
        click.option("--since", type=Moment(), metavar="TIME", help="Only rows inserted at this time or later."),
        click.option("--until", type=Moment(), metavar="TIME", help="Only rows inserted before this time."),
        click.option("--where-id", type=IdRange(), metavar="A..B", help="Only rows with these ids."),
        click.option("--model", metavar="NAME", help="Only rows of this model."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how files of rows are written; the command gets them as `options`."""
    from serving.batch.reading.options import ReadOptions

    @wraps(command)
    def with_options(
        *, columns: str, delimiter: str, decimal: str, encoding: str, no_header: bool, **others: Any
    ) -> Any:
        try:
            options = ReadOptions.parse(columns, delimiter, decimal, encoding, no_header=no_header)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return command(options=options, **others)

    options = [
        click.option(
            "--columns",
            metavar="NAME,...",
            help="Columns with the values, in the order of the model; with --no-header their numbers from 1. Default: "
            "the columns of the model by their names.",
        ),
        click.option(
            "--delimiter",
            metavar="SIGN",
            help="Sign between the values of CSV, or tab. Default: a comma; a tab in .tsv.",
        ),
        click.option(
            "--decimal", type=click.Choice([".", ","]), help="Decimal sign of numbers in CSV. Default: a point."
        ),
        click.option(
            "--encoding",
            metavar="NAME",
            help="Encoding of text, such as cp1252. Default: a byte order mark, else UTF-8.",
        ),
        click.option(
            "--no-header",
            is_flag=True,
            help="The first line of CSV is a row. Default: it is one where it plainly has no names.",
        ),
    ]
    decorated: Callable[..., Any] = with_options
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def show_bad_rows(shown: Sequence[str], number: int) -> None:
    """The first bad rows of files, on standard error."""
    from serving.commands.exits import one_line

    for line in shown:
        click.echo(one_line(line), err=True)
    if number > len(shown):
        click.echo(f"and {number - len(shown):,} more", err=True)


def skipped_text(names: Sequence[str]) -> str:
    """The files of a directory that are no rows, for the end of a sentence."""
    return f"; skipped {', '.join(names)}" if names else ""


def require_input(source: str) -> None:
    """Raises click.UsageError where a path is wrong; a glob or a URL is judged when it is read."""
    if not _is_pattern(source) and not Path(source).exists():
        raise click.UsageError(f"there is no such file: {source}")


def _is_pattern(source: str) -> bool:
    return "://" in source or any(sign in source for sign in "*?[")


def rejects_of(source: str) -> Path:
    """Where the bad lines of an input go: beside it, or in the working directory where it is no path."""
    if _is_pattern(source) and not Path(source).exists():
        return Path("rows.rejected")
    path = Path(source)
    return path.with_name(f"{path.name}.rejected")


def scope_of(
    since: datetime | None,
    until: datetime | None,
    where_id: tuple[int | None, int | None] | None,
    model: str | None,
) -> Scope:
    from serving.batch.scope import Scope

    first, last = where_id or (None, None)
    return Scope(since=since, until=until, first_id=first, last_id=last, model=model)


def served_model(settings: Settings, name: str | None) -> str:
    """The model that a command is about: `name`, else `default_model` where that is enabled, else none (empty).

    Raises:
        click.UsageError: `name` is not in the configuration, or not enabled.
    """
    from serving.batch.checks import unknown_model

    if name is None:
        return settings.default_model if settings.default_model in settings.served else ""
    if name not in settings.served:
        raise click.UsageError(f"--model: {unknown_model(name, settings.served)}")
    return name


@contextmanager
def failures(database: Database | None = None) -> Iterator[None]:
    """End the command with one line when the settings, the database or a model cannot be used."""
    from sqlalchemy.exc import DBAPIError

    from serving.batch.database_errors import cause
    from serving.batch.persistence import DatabaseAwayError
    from serving.batch.rights import explain
    from serving.core.errors import ConfigurationError, ModelError

    try:
        yield
    except (ConfigurationError, ModelError, DatabaseAwayError, OSError) as error:
        raise Failure(FAILED, str(error)) from error
    except DBAPIError as error:
        reason = cause(error) if database is None else explain(database, error)
        raise Failure(FAILED, f"the database: {reason}") from error


@contextmanager
def opened(*, idle: bool = False, tables: bool = True) -> Iterator[tuple[Database, Settings]]:
    """The database of the settings, and the settings. Errors in the block end the command with one line.

    Args:
        idle: let the server close a connection that is idle for longer than a lease.
        tables: require that the tables are there.
    """
    with failures():
        from serving.batch.database import Database
        from serving.batch.migrate import require_tables
        from serving.settings.reading import read_settings

        settings = read_settings()
        database = Database(
            settings.batch.url,
            schema=settings.batch.database_schema,
            idle_seconds=settings.batch.lease_seconds if idle else None,
        )
        try:
            with failures(database):
                if tables:
                    require_tables(database)
                yield database, settings
        finally:
            database.close()
