"""Rows in PostgreSQL: claimed by row locks, written by one UPDATE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from serving.batch.chunk import Chunk, ChunkResult, fetch, selection
from serving.batch.scope import Scan
from serving.batch.tables import ITEMS
from serving.codecs.base import RowAnswers

# Arrays and not a temporary table, which would need a right and outlive the transaction on a pooled connection. The
# bounds keep the plan to the rows in question, whatever the statistics of the tables say.
_UPDATE = f"""
UPDATE {ITEMS} SET
    prediction = scored.prediction::json, label = scored.label, model_tag = %(tag)s, error = scored.error,
    status = CASE WHEN scored.error IS NULL THEN 'predicted' ELSE 'failed' END,
    attempts = {ITEMS}.attempts + 1, updated_at = clock_timestamp()
FROM unnest(%(ids)s::bigint[], %(predictions)s::text[], %(labels)s::text[], %(errors)s::text[])
    AS scored (id, prediction, label, error)
WHERE {ITEMS}.id = scored.id AND {ITEMS}.id BETWEEN %(first)s AND %(last)s
"""  # noqa: S608 - nothing but constants
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}


class PostgresChunks:
    """Locks end with their transaction, and it ends with its connection: a scorer that dies leaves nothing locked."""

    leases = False

    def claim(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        statement = selection("postgresql", scan, after=after, rows=rows)
        return fetch(connection, statement.with_for_update(skip_locked=True))

    def take(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        return fetch(connection, selection("postgresql", scan, after=after, rows=rows).with_for_update())

    def write(self, connection: Connection, chunk: Chunk, predictions: RowAnswers, *, tag: str | None) -> ChunkResult:
        values = {
            "tag": tag,
            "ids": array(map(str, chunk.ids)),
            "predictions": array(predictions.predictions),
            "labels": array(predictions.labels),
            "errors": array(predictions.errors),
            "first": chunk.ids[0],
            "last": chunk.last_id,
        }
        written = connection.exec_driver_sql(_UPDATE, values).rowcount
        failed = sum(error is not None for error in predictions.errors)
        return ChunkResult(written - failed, failed)


def array(values: Iterable[str | None]) -> str:
    """A one-dimensional array in PostgreSQL's text form."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\0", "")
    return f'"{escaped}"'


def copy_rows(connection: Connection, target: str, rows: Iterable[Sequence[str | None]]) -> None:
    """Insert rows with COPY. `target` is a table, with its columns where they are not all, and nothing from outside."""
    statement = f"COPY {target} FROM STDIN"
    with _errors(connection, statement):
        driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write("\n".join("\t".join(map(_field, row)) for row in rows) + "\n")


def _field(text: str | None) -> str:
    """A value in COPY's text format."""
    if text is None:
        return r"\N"
    # No text of PostgreSQL has a zero byte.
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], text.replace("\0", ""))


@contextmanager
def _errors(connection: Connection, statement: str) -> Iterator[None]:
    """What the driver raises, as SQLAlchemy raises it elsewhere."""
    try:
        yield
    except psycopg.Error as error:
        driver = connection.connection.driver_connection
        raise DBAPIError.instance(
            statement,
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver is None or bool(driver.closed),
            dialect=connection.dialect,
        ) from error
