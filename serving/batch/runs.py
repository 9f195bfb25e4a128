"""Runs in the database: each has its own counts, which are written in the transactions of its rows."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from serving.batch.chunk import ChunkResult
from serving.batch.clock import utc_now
from serving.batch.database import Database
from serving.batch.scope import Scan, Scope
from serving.batch.tables import LABEL_LENGTH, Item, Run, Status


class Outcome(StrEnum):
    """How a run ended. One that was killed has no outcome."""

    DONE = "done"
    """No row that it could score is left in its scope, or its limit is reached."""
    DEADLINE = "deadline"
    """The next chunk would not be done in time."""
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"
    """The rows that are left are claimed by another scorer, which does not score them."""
    FAILED = "failed"
    """An error ended it."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    id: int
    at: datetime
    """By the clock of the database."""
    last_id: int
    """Of the rows that are there at the start. Rows that are inserted later are for the next run."""


def begin(database: Database, scope: dict[str, Any]) -> RunStarted:
    """Insert a new run."""
    scorer = f"{socket.gethostname()}:{os.getpid()}"[:LABEL_LENGTH]
    with database.write() as connection:
        inserted: Any = connection.execute(insert(Run).values(scope=scope, scorer=scorer)).inserted_primary_key
        run_id: int = inserted[0]
        at = connection.execute(select(utc_now())).scalar_one()
        last_id = connection.execute(select(func.max(Item.id))).scalar_one() or 0
    return RunStarted(run_id, at, last_id)


def add(connection: Connection, run_id: int, *, claimed: int, written: ChunkResult) -> None:
    """Add the counts of a chunk, in its transaction."""
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
    """How many rows of a scope have no prediction, claimed or not."""
    statement = select(func.count()).where(*scope.conditions(), Item.status == Status.UNPREDICTED).select_from(Item)
    with database.read() as connection:
        return connection.execute(statement).scalar_one()


def matching(database: Database, scans: Sequence[Scan]) -> int:
    """How many rows these scans would select now."""
    with database.read() as connection:
        counted = (select(func.count()).select_from(Item).where(*scan.conditions()) for scan in scans)
        return sum(connection.execute(statement).scalar_one() for statement in counted)


def any_of(database: Database, scan: Scan) -> bool:
    """Whether this scan would select a row now."""
    with database.read() as connection:
        return connection.execute(select(Item.id).where(*scan.conditions()).limit(1)).first() is not None
