"""Rows for the tests, and a model that scores them without a library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from serving.batch.database import Database
from serving.batch.loading import insert_rows
from serving.batch.run_limits import Stopper
from serving.batch.scorer import Plan, Scorer, Summary
from serving.batch.tables import Item
from serving.codecs.base import RowAnswers

TAG = "sums:1"


class Sums:
    """Adds the numbers of a row; notes its calls, and runs `during` in each one."""

    tag = TAG
    most_rows = 1_000_000

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.calls: list[int] = []
        self.during = during

    def predict(self, values: Sequence[str]) -> RowAnswers:
        self.calls.append(len(values))
        self.during()
        rows = [json.loads(text) for text in values]
        errors = [
            None if isinstance(row, list) else f"not a list: {text}" for row, text in zip(rows, values, strict=True)
        ]
        texts = [json.dumps({"sum": sum(row)}) if isinstance(row, list) else None for row in rows]
        labels = [None if text is None else "a\\b'c\t%" for text in texts]
        return RowAnswers(texts, labels, errors)


class Silent:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.succeeded = self.failed = 0
        self.troubles: list[str] = []

    def start(self, total: Callable[[], int]) -> None:
        self.total = total()

    def advance(self, *, succeeded: int, failed: int) -> None:
        self.succeeded += succeeded
        self.failed += failed

    def trouble(self, message: str) -> None:
        self.troubles.append(message)


def fill(database: Database, count: int, *, model: str = "sums", values: Any = None) -> None:
    """Insert rows; the values are `[0]`, `[1]`, … unless given."""
    rows = [(model, json.dumps([number] if values is None else values)) for number in range(count)]
    with database.write() as connection:
        insert_rows(connection, database.kind, rows)


def score(
    database: Database,
    plan: Plan | None = None,
    *,
    models: Mapping[str, Any] | None = None,
    stopper: Stopper | None = None,
    progress: Silent | None = None,
) -> Summary:
    """Run a scorer that knows the model `sums`, or `models`, which are predictors by name."""
    known = {"sums": Sums()} if models is None else models
    openers = {name: (lambda predictor=predictor: predictor) for name, predictor in known.items()}
    scorer = Scorer(database, openers, progress=progress or Silent(), stopper=stopper or Stopper())
    return scorer.run(plan or Plan(retry_seconds=20))


def rows(database: Database, *columns: Any) -> list[Any]:
    """Columns of all rows in the order of their ids."""
    with database.read() as connection:
        found = connection.execute(select(*columns).order_by(Item.id)).all()
    return [row[0] for row in found] if len(columns) == 1 else [tuple(row) for row in found]
