"""Rows in SQLite, which has one writer at a time and no row locks: claimed by a lease in a column."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, text, update
from sqlalchemy.sql.expression import literal_column

from serving.batch.chunk import Chunk, ChunkResult, fetch, selection
from serving.batch.clock import NOW, SQLITE_FORMAT
from serving.batch.scope import Scan
from serving.batch.tables import ITEMS, Item
from serving.codecs.base import RowAnswers

_LEASE_END = f"strftime('{SQLITE_FORMAT}', 'now', :lease)"
_SET = (
    f"attempts = attempts + 1, updated_at = {NOW['sqlite']}, claimed_by = NULL, claimed_until = NULL, model_tag = ? "
    "WHERE id = ? AND claimed_by = ?"
)
# Only the scorer with the claim writes: one that was away for longer than its lease changes nothing.
_PREDICTED = f"UPDATE {ITEMS} SET prediction = ?, label = ?, status = 'predicted', error = NULL, {_SET}"  # noqa: S608
_FAILED = f"UPDATE {ITEMS} SET prediction = NULL, label = NULL, status = 'failed', error = ?, {_SET}"  # noqa: S608 - nothing but constants


class SqliteChunks:
    """A claim and its predictions are two short transactions, so that no scorer waits for the engine of another one."""

    leases = True

    def __init__(self, lease_seconds: float) -> None:
        self._lease = f"+{lease_seconds:.3f} seconds"

    def claim(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        now = connection.execute(text(f"SELECT {NOW['sqlite']}")).scalar_one()
        # Compared as text, as they are stored.
        until: ColumnElement[str] = literal_column("claimed_until")
        return self._take(connection, scan, or_(until.is_(None), until < now), after=after, rows=rows)

    def take(self, connection: Connection, scan: Scan, *, after: int, rows: int) -> Chunk | None:
        return self._take(connection, scan, None, after=after, rows=rows)

    def _take(
        self, connection: Connection, scan: Scan, free: ColumnElement[bool] | None, *, after: int, rows: int
    ) -> Chunk | None:
        claim = secrets.token_hex(8)
        conditions = [] if free is None else [free]
        chunk = fetch(connection, selection("sqlite", scan, after=after, rows=rows).where(*conditions), claim)
        if chunk is None:
            return None
        # These are the same rows, as no other program writes during this transaction.
        mine = update(Item).where(*scan.conditions(), *conditions, Item.id.between(chunk.ids[0], chunk.last_id))
        lease_end = text(_LEASE_END).bindparams(lease=self._lease)
        connection.execute(mine.values(claimed_by=claim, claimed_until=lease_end))
        return chunk

    def write(self, connection: Connection, chunk: Chunk, predictions: RowAnswers, *, tag: str | None) -> ChunkResult:
        rows = zip(chunk.ids, predictions.predictions, predictions.labels, predictions.errors, strict=True)
        predicted: list[tuple[Any, ...]] = []
        failed: list[tuple[Any, ...]] = []
        for number, prediction, label, error in rows:
            if error is None:
                predicted.append((prediction, label, tag, number, chunk.claim))
            else:
                failed.append((error, tag, number, chunk.claim))
        return ChunkResult(_many(connection, _PREDICTED, predicted), _many(connection, _FAILED, failed))


def _many(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> int:
    return connection.exec_driver_sql(statement, rows).rowcount if rows else 0
