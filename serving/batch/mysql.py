"""Rows in MariaDB and MySQL: claimed by row locks, written by one statement with many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from sqlalchemy import Connection

from serving.batch.chunk import Chunk, ChunkResult, fetch, selection
from serving.batch.scope import Scan
from serving.batch.tables import ITEMS
from serving.codecs.base import RowAnswers

# Several times quicker than an UPDATE with a join, which makes a copy of the rows first. The rows are there and are
# locked, so that nothing is ever inserted; `model` and `values` have to be given nevertheless.
_HEAD = f"INSERT INTO {ITEMS} (id, model, `values`, prediction, label, error) VALUES "  # noqa: S608 - a constant
_TAIL = """ ON DUPLICATE KEY UPDATE
    prediction = VALUES(prediction), label = VALUES(label), error = VALUES(error), model_tag = %s,
    status = IF(VALUES(error) IS NULL, 'predicted', 'failed'), attempts = attempts + 1, updated_at = utc_timestamp(6)"""
_MOST_CHARACTERS = 2_000_000
"""In the values of a statement: below the smallest `max_allowed_packet` in use, 16 MiB, escaped and in UTF-8 too."""


class MysqlChunks:
    """Locks end with their transaction, and it ends with its connection: a scorer that dies leaves nothing locked."""

    leases = False

    def claim(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        return fetch(connection, selection("mysql", scan, after=after, rows=rows).with_for_update(skip_locked=True))

    def take(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        return fetch(connection, selection("mysql", scan, after=after, rows=rows).with_for_update())

    def write(self, connection: Connection, chunk: Chunk, predictions: RowAnswers, *, tag: str | None) -> ChunkResult:
        columns = (predictions.predictions, predictions.labels, predictions.errors)
        many_rows(connection, _HEAD, "(%s,'','0',%s,%s,%s)", list(zip(chunk.ids, *columns, strict=True)), _TAIL, tag)
        failed = sum(error is not None for error in predictions.errors)
        return ChunkResult(len(chunk.ids) - failed, failed)


def many_rows(
    connection: Connection,
    head: str,
    row: str,
    rows: Sequence[Sequence[str | int | None]],
    tail: str = "",
    *last: str | None,
) -> None:
    """Statements with as many rows as fit in a packet. The driver puts the values in, since it knows how to escape.

    `last` are the values of `tail`.
    """
    for part in _parts(rows):
        values = (*chain.from_iterable(part), *last)
        connection.exec_driver_sql(head + ",".join([row] * len(part)) + tail, values)


def _parts(rows: Sequence[Sequence[str | int | None]]) -> Iterator[Sequence[Sequence[str | int | None]]]:
    start = size = 0
    for index, row in enumerate(rows):
        length = sum(len(value) for value in row if isinstance(value, str))
        if size + length > _MOST_CHARACTERS and index > start:
            yield rows[start:index]
            start, size = index, 0
        size += length
    yield rows[start:]
