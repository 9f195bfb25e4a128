"""`serving batch load`: insert the rows of a file into the table, all of its good ones or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec
from sqlalchemy import Connection

from serving.batch.database import Database
from serving.batch.database_url import Kind
from serving.batch.mysql import many_rows
from serving.batch.postgresql import copy_rows
from serving.batch.reading import SHOWN_ROWS
from serving.batch.reading.lines import Line
from serving.batch.tables import ITEMS
from serving.core.errors import ConfigurationError

_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Loaded:
    loaded: int
    rejected: int
    first_rejects: list[str]
    """The first 20: file, line and reason."""


def load(
    database: Database,
    lines: Iterable[Line],
    *,
    model: str,
    check: Callable[[str, str], str | None],
    rejects: Path,
    advance: Callable[[int, int], object] = lambda _loaded, _rejected: None,
) -> Loaded:
    """Insert the good lines in one transaction and write the bad ones, with number and reason, to `rejects`.

    One transaction, because a file that is half in the table could not be loaded again without repeating rows. The
    file of the rejected lines is only made when a line is rejected.

    Args:
        model: of lines that name none; empty where there is none, and `check` then refuses such lines.
        check: what is wrong with the values of a row, given as JSON, of a model.
        advance: called with the numbers of lines that were inserted and rejected since its last call.

    Raises:
        ConfigurationError: the file of the rejected lines exists.
        sqlalchemy.exc.DBAPIError: nothing has been inserted.
    """
    total = rejected = 0
    first_rejects: list[str] = []
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        connection = stack.enter_context(database.write())
        for batch in _batches(lines):
            good: list[tuple[str, str]] = []
            bad = 0
            for line in batch:
                name = line.model or model
                error = line.error or check(name, line.values)
                if error is None:
                    good.append((name, line.values))
                    continue
                bad += 1
                file = file or stack.enter_context(_new(rejects))
                if len(first_rejects) < SHOWN_ROWS:
                    first_rejects.append(f"{line.file}, line {line.number}: {error}")
                reject = {"file": line.file, "line": line.number, "error": error, "text": line.text or line.values}
                file.write(msgspec.json.encode(reject) + b"\n")
            insert_rows(connection, database.kind, good)
            total += len(good)
            rejected += bad
            advance(len(good), bad)
    return Loaded(total, rejected, first_rejects)


def insert_rows(connection: Connection, kind: Kind, rows: Sequence[tuple[str, str]]) -> None:
    """Add unpredicted rows: for each a model and the JSON of its values, which the caller has checked."""
    if not rows:
        return
    if kind == "postgresql":
        copy_rows(connection, f'{ITEMS} (model, "values")', rows)
    elif kind == "mysql":
        many_rows(connection, f"INSERT INTO {ITEMS} (model, `values`) VALUES ", "(%s,%s)", rows)  # noqa: S608
    else:
        connection.exec_driver_sql(f'INSERT INTO {ITEMS} (model, "values") VALUES (?, ?)', list(rows))  # noqa: S608


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    iterator: Any = iter(lines)
    while batch := list(islice(iterator, _BATCH_ROWS)):
        yield batch


def _new(rejects: Path) -> IO[bytes]:
    try:
        return rejects.open("xb")
    except FileExistsError:
        raise ConfigurationError(f"{rejects} exists; move it away, or name another file with --rejects") from None
