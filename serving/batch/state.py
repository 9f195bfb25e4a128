"""The state of the rows: `serving batch status` shows it, and `serving batch retry` resets it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, null, select, update

from serving.batch.clock import utc_now
from serving.batch.database import Database
from serving.batch.scope import Scope
from serving.batch.tables import Item, Run, Status


def items_by_model(database: Database) -> dict[str, dict[str, int]]:
    """How many rows of each model are in each state."""
    statement = select(Item.model, Item.status, func.count()).group_by(Item.model, Item.status).order_by(Item.model)
    found: dict[str, dict[str, int]] = {}
    with database.read() as connection:
        for model, status, count in connection.execute(statement):
            found.setdefault(model, {known.value: 0 for known in Status})[status] = count
    return found


def latest_runs(database: Database, limit: int) -> list[dict[str, Any]]:
    """The newest runs first."""
    columns = (
        *(Run.id, Run.started_at, Run.finished_at, Run.outcome, Run.claimed, Run.succeeded, Run.failed),
        *(Run.scorer, Run.scope, Run.error),
    )
    with database.read() as connection:
        rows = connection.execute(select(*columns).order_by(Run.id.desc()).limit(limit))
        return [dict(row._mapping) for row in rows]


def retry(database: Database, scope: Scope) -> int:
    """Reset the failed rows of `scope` to their state before the first attempt; how many there are."""
    statement = (
        update(Item)
        .where(*scope.conditions(), Item.status == Status.FAILED)
        .values(status=Status.UNPREDICTED, attempts=0, error=null(), model_tag=null(), updated_at=utc_now())
    )
    with database.write() as connection:
        return connection.execute(statement).rowcount
