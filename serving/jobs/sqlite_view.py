"""What the SQLite store reads: single jobs, pages, numbers."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from typing import Any

from serving.jobs.job import Job, JobError, JobPage, ModelStats, Status, not_a_cursor, not_found
from serving.settings.jobs import JobsSettings

RATE_SECONDS = 60
_NEWEST = 2**63 - 1
_CURSOR_DIGITS = 18
# The statuses in which the error of the last attempt is of interest.
_HAVE_ERROR = (Status.QUEUED, Status.FAILED, Status.EXPIRED)

# `INDEXED BY`, since SQLite would rather take the index of a status, and go through every queued job.
POSITION = "SELECT count(*) FROM jobs INDEXED BY by_place WHERE model = ? AND status = 'queued' AND place < ?"
ANY_READY = "SELECT 1 FROM jobs INDEXED BY ready WHERE model = ? AND status = 'queued' AND due_at IS NULL LIMIT 1"
NEXT_DUE = (
    "SELECT min(due_at) FROM jobs INDEXED BY delayed WHERE model = ? AND status = 'queued' AND due_at IS NOT NULL"
)
NEXT_LEASE = "SELECT min(leased_until) FROM jobs INDEXED BY leases WHERE status = 'running'"
OLDEST = "SELECT queued_at FROM jobs INDEXED BY by_place WHERE model = ? AND status = 'queued' ORDER BY place LIMIT 1"
RATE = (
    "SELECT count(*) FROM jobs INDEXED BY measured "
    "WHERE model = ? AND status IN ('succeeded', 'failed') AND finished_at > ?"
)
PAGES = {
    (False, False): "SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?",
    (True, False): "SELECT * FROM jobs WHERE status = ? AND number < ? ORDER BY number DESC LIMIT ?",
    (False, True): "SELECT * FROM jobs WHERE model = ? AND number < ? ORDER BY number DESC LIMIT ?",
    (True, True): "SELECT * FROM jobs WHERE status = ? AND model = ? AND number < ? ORDER BY number DESC LIMIT ?",
}
BY_ID = "SELECT * FROM jobs WHERE id = ?"


class SqliteView:
    """The tables at one moment: made for one transaction, which its caller begins and ends."""

    def __init__(self, connection: sqlite3.Connection, settings: JobsSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._now = time.time()

    def get(self, job_id: str) -> Job:
        row = self._find(job_id)
        body = self._one("SELECT body FROM results WHERE number = ?", row["number"])
        position = None
        if row["status"] == Status.QUEUED:
            position = self._value(POSITION, row["model"], row["place"])
        return self._job(row, result=None if body is None else body["body"], position=position)

    def look(self, job_id: str) -> tuple[Job, bool]:
        """As `get`, and whether the job has expired although its status does not say so yet."""
        job = self.get(job_id)
        return job, job.status is Status.QUEUED and job.expires_at <= self._now

    def page(self, status: Status | None, model: str | None, limit: int, after: str | None) -> JobPage:
        before = _NEWEST if after is None else _read_cursor(after)
        filters = [value for value in (status, model) if value is not None]
        query = PAGES[status is not None, model is not None]
        rows = self._connection.execute(query, (*filters, before, limit + 1)).fetchall()
        more = len(rows) > limit
        rows = rows[:limit]
        return JobPage([self._job(row) for row in rows], str(rows[-1]["number"]) if more else None)

    def stats(self) -> dict[str, ModelStats]:
        found: dict[str, ModelStats] = {}
        counts: dict[str, dict[Status, int]] = {}
        queued_bytes: dict[str, int] = {}
        for row in self._connection.execute("SELECT * FROM counts WHERE jobs > 0"):
            counts.setdefault(row["model"], dict.fromkeys(Status, 0))[Status(row["status"])] = row["jobs"]
            if row["status"] == Status.QUEUED:
                queued_bytes[row["model"]] = row["bytes"]
        for model, by_status in counts.items():
            oldest = self._one(OLDEST, model)
            found[model] = ModelStats(
                counts=by_status,
                oldest_queued_seconds=0.0 if oldest is None else max(0.0, self._now - oldest["queued_at"]),
                queued_bytes=queued_bytes.get(model, 0),
                finished_per_second=self._rate(model),
            )
        return found

    def seconds_to_work(self, model: str) -> float:
        """0 when there may be something to claim now, else until a backoff or a lease ends; infinite without."""
        if self._one(ANY_READY, model):
            return 0.0
        times = (self._value(NEXT_DUE, model), self._value(NEXT_LEASE))
        return max(0.0, min((moment for moment in times if moment is not None), default=math.inf) - self._now)

    def _find(self, job_id: str) -> sqlite3.Row:
        try:
            row = self._one(BY_ID, job_id)
        except UnicodeEncodeError:  # half of a surrogate pair: such an id is never accepted
            row = None
        if row is None:
            raise not_found()
        return row

    def _rate(self, model: str) -> float:
        """Jobs per second that succeeded or failed, over the last minute."""
        finished: int = self._value(RATE, model, self._now - RATE_SECONDS)
        return finished / RATE_SECONDS

    def _one(self, query: str, *values: object) -> sqlite3.Row | None:
        return self._connection.execute(query, values).fetchone()

    def _value(self, query: str, *values: object) -> Any:
        """The one value of the one row that there always is."""
        return self._connection.execute(query, values).fetchone()[0]

    @staticmethod
    def _job(row: sqlite3.Row, *, result: bytes | None = None, position: int | None = None) -> Job:
        status = Status(row["status"])
        return Job(
            id=row["id"],
            model=row["model"],
            status=status,
            attempts=row["attempts"],
            max_retries=row["max_retries"],
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            due_at=row["due_at"],
            error=JobError(*json.loads(row["error"])) if row["error"] and status in _HAVE_ERROR else None,
            result=result,
            position=position,
        )


def _read_cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _CURSOR_DIGITS):
        raise not_a_cursor()
    return int(text)
