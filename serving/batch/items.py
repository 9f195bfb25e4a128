"""Rows and runs for the HTTP routes: page by page, by id, and added a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, Select, insert, select
from sqlalchemy.orm import InstrumentedAttribute

from serving.batch.database import Database
from serving.batch.database_url import Kind
from serving.batch.tables import Item, Run, Status, json_text

_Rows = Sequence[RowMapping]
_ITEM = (
    *(Item.id, Item.model, Item.status, Item.label, Item.model_tag, Item.attempts, Item.error),
    *(Item.created_at, Item.updated_at),
)
_RUN = (
    *(Run.id, Run.started_at, Run.finished_at, Run.scorer, Run.claimed, Run.succeeded, Run.failed, Run.outcome),
    Run.error,
)
LARGEST_ID = 2**63 - 1


def page_of_items(database: Database, *, status: Status | None, after: int, limit: int) -> _Rows:
    """At most `limit` rows with ids above `after`, in the order of the ids; JSON columns as text."""
    statement = _items(database.kind).where(Item.id > after).order_by(Item.id).limit(limit)
    return _read(database, statement if status is None else statement.where(Item.status == status))


def get_item(database: Database, item_id: int) -> RowMapping | None:
    """One row, `None` when it is not there."""
    return next(iter(_read(database, _items(database.kind).where(Item.id == item_id))), None)


def page_of_runs(database: Database, *, before: int | None, limit: int) -> _Rows:
    """At most `limit` runs with ids below `before`, newest first; JSON columns as text."""
    statement = select(*_RUN, _text(Run.scope, database.kind)).order_by(Run.id.desc()).limit(limit)
    return _read(database, statement if before is None else statement.where(Run.id < before))


def add_items(database: Database, rows: Sequence[tuple[str, Any]]) -> list[int]:
    """Insert rows, each a model and its values, all or none; their ids in the same order."""
    parameters = [{"model": model, "values": values} for model, values in rows]
    with database.write() as connection:
        if connection.dialect.insert_executemany_returning_sort_by_parameter_order:
            statement = insert(Item).returning(Item.id, sort_by_parameter_order=True)
            return list(connection.execute(statement, parameters).scalars())
        ids = []  # MySQL, other than MariaDB, does not return what it has inserted
        for parameter in parameters:
            inserted: Any = connection.execute(insert(Item).values(parameter)).inserted_primary_key
            ids.append(int(inserted[0]))
        return ids


def _items(kind: Kind) -> Select[Any]:
    return select(*_ITEM, _text(Item.values, kind), _text(Item.prediction, kind))


def _text(column: InstrumentedAttribute[Any], kind: Kind) -> Any:
    return json_text(column, kind).label(column.key)


def _read(database: Database, statement: Select[Any]) -> _Rows:
    with database.read() as connection:
        return connection.execute(statement).mappings().all()
