"""What the database knows of runs: a run's own figures, counted in the transactions of its rows."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from serving.batch.chunk import Written
from serving.batch.clock import utc_now
from serving.batch.database import Database
from serving.batch.scope import Pass, Scope
from serving.batch.tables import LABEL_LENGTH, Item, Run, Status


class Outcome(StrEnum):
    """How a run ended. One that was killed has no outcome."""

    DONE = "done"
    """Nothing that it could score is left in its scope, or its limit is reached."""
    DEADLINE = "deadline"
    """The next chunk would not have been done in time."""
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"
    """What is left has been claimed by somebody who does nothing with it."""
    FAILED = "failed"
    """It could not go on."""


@dataclass(frozen=True, slots=True)
class Begun:
    id: int
    at: datetime
    """By the clock of the database."""
    last_id: int
    """Of the rows that there were: what is inserted later is for the next run."""


def begin(database: Database, scope: dict[str, Any]) -> Begun:
    """Note a new run."""
    scorer = f"{socket.gethostname()}:{os.getpid()}"[:LABEL_LENGTH]
    with database.write() as connection:
        inserted: Any = connection.execute(insert(Run).values(scope=scope, scorer=scorer)).inserted_primary_key
        run_id: int = inserted[0]
        at = connection.execute(select(utc_now())).scalar_one()
        last_id = connection.execute(select(func.max(Item.id))).scalar_one() or 0
    return Begun(run_id, at, last_id)


def add(connection: Connection, run_id: int, *, claimed: int, written: Written) -> None:
    """Count a chunk, in its transaction."""
    counted = {
        "claimed": Run.claimed + claimed,
        "succeeded": Run.succeeded + written.succeeded,
        "failed": Run.failed + written.failed,
        "updated_at": utc_now(),
    }
    connection.execute(update(Run).where(Run.id == run_id).values(counted))


def finish(database: Database, run_id: int, outcome: Outcome, error: str | None = None) -> None:
    with database.write() as connection:
        ended = {"finished_at": utc_now(), "updated_at": utc_now(), "outcome": outcome.value, "error": error}
        connection.execute(update(Run).where(Run.id == run_id).values(ended))


def counts(database: Database, run_id: int) -> tuple[int, int, int]:
    """Claimed, succeeded and failed rows of a run, as they were committed."""
    with database.read() as connection:
        found = connection.execute(select(Run.claimed, Run.succeeded, Run.failed).where(Run.id == run_id)).one()
    return found.claimed, found.succeeded, found.failed


def unpredicted(database: Database, scope: Scope) -> int:
    """How many rows of a scope wait, whoever may have claimed them."""
    statement = select(func.count()).where(*scope.conditions(), Item.status == Status.UNPREDICTED).select_from(Item)
    with database.read() as connection:
        return connection.execute(statement).scalar_one()


def matching(database: Database, walks: Sequence[Pass]) -> int:
    """How many rows some walks would come by now."""
    with database.read() as connection:
        counted = (select(func.count()).select_from(Item).where(*walk.conditions()) for walk in walks)
        return sum(connection.execute(statement).scalar_one() for statement in counted)


def any_of(database: Database, walk: Pass) -> bool:
    """Whether a walk would come by a row now."""
    with database.read() as connection:
        return connection.execute(select(Item.id).where(*walk.conditions()).limit(1)).first() is not None
