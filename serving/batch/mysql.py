"""Rows in MariaDB and MySQL: claimed by row locks, written by one statement with many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from serving.batch.chunk import Chunk, Written, fetch, selection
from serving.batch.predictor import Predictions
from serving.batch.scope import Pass

# Several times quicker than an UPDATE with a join, which makes a copy of the rows first. The rows are there and are
# locked, so that nothing is ever inserted; `model` and `values` have to be given nevertheless.
_HEAD = "INSERT INTO items (id, model, `values`, prediction, label, model_tag, status, error) VALUES "
_TAIL = """ ON DUPLICATE KEY UPDATE
    prediction = VALUES(prediction), label = VALUES(label), model_tag = VALUES(model_tag), status = VALUES(status),
    error = VALUES(error), attempts = attempts + 1, updated_at = utc_timestamp(6)"""
_MOST_CHARACTERS = 2_000_000
"""Of a statement: below the smallest `max_allowed_packet` in use, 16 MiB, whatever the characters are."""


class MysqlChunks:
    """Locks end with their transaction, and that with its connection: a scorer that dies leaves nothing."""

    leases = False

    def claim(self, connection: Connection, walk: Pass, *, after: int, rows: int) -> Chunk | None:
        return fetch(connection, selection("mysql", walk, after=after, rows=rows).with_for_update(skip_locked=True))

    def take(self, connection: Connection, walk: Pass, *, after: int, rows: int) -> Chunk | None:
        return fetch(connection, selection("mysql", walk, after=after, rows=rows).with_for_update())

    def write(self, connection: Connection, chunk: Chunk, predictions: Predictions, *, tag: str | None) -> Written:
        escape = connection.connection.driver_connection.literal  # type: ignore[union-attr]
        for statement in _statements(_rows(escape, chunk.ids, predictions, tag)):
            # Every value is in the statement already: a percent sign in one is none of a format's.
            connection.execution_options(no_parameters=True).exec_driver_sql(statement)
        failed = sum(error is not None for error in predictions.errors)
        return Written(len(chunk.ids) - failed, failed)


def _rows(escape: Any, ids: Sequence[int], predictions: Predictions, tag: str | None) -> Iterator[str]:
    tag_literal = escape(tag)
    literals: dict[str | None, str] = {}  # there are few labels
    for number, text, label, error in zip(ids, predictions.texts, predictions.labels, predictions.errors, strict=True):
        if error is not None:
            yield f"({number},'','0',NULL,NULL,{tag_literal},'failed',{escape(error)})"
            continue
        label_literal = literals.get(label)
        if label_literal is None:
            label_literal = literals[label] = escape(label)
        yield f"({number},'','0',{escape(text)},{label_literal},{tag_literal},'predicted',NULL)"


def _statements(rows: Iterator[str]) -> Iterator[str]:
    part: list[str] = []
    size = 0
    for row in rows:
        if part and size + len(row) > _MOST_CHARACTERS:
            yield _HEAD + ",".join(part) + _TAIL
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    yield _HEAD + ",".join(part) + _TAIL
