"""What the SQLite store changes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from serving.jobs.job import (
    WORKER_DIED,
    Claimed,
    Job,
    JobError,
    Lease,
    NewJob,
    Status,
    Submitted,
    cannot_cancel,
    cannot_retry,
    key_is_taken,
    queue_is_full,
)
from serving.jobs.notify import topic
from serving.jobs.sqlite_view import BY_ID, SqliteView
from serving.settings.jobs import JobsSettings

# Most jobs that one step takes back, ends or forgets beside its own work, so that no step takes long.
MOST_AT_ONCE = 200

BY_KEY = "SELECT * FROM jobs WHERE idempotency_key = ?"
FIRST_READY = (
    "SELECT * FROM jobs INDEXED BY ready WHERE model = ? AND status = 'queued' AND due_at IS NULL AND expires_at > ? "
    "ORDER BY place LIMIT ?"
)
PROMOTE = (
    "UPDATE jobs SET due_at = NULL WHERE number IN (SELECT number FROM jobs INDEXED BY delayed "
    "WHERE model = ? AND status = 'queued' AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?)"
)
OVERDUE = (
    "SELECT * FROM jobs INDEXED BY expiring WHERE status = 'queued' AND expires_at <= ? ORDER BY expires_at LIMIT ?"
)
RAN_OUT = (
    "SELECT * FROM jobs INDEXED BY leases WHERE status = 'running' AND leased_until <= ? ORDER BY leased_until LIMIT ?"
)
OWNED = "SELECT * FROM jobs INDEXED BY owners WHERE status = 'running' AND owner = ?"
FORGET = (
    "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs INDEXED BY forgotten "
    "WHERE forget_at IS NOT NULL AND forget_at <= ? ORDER BY forget_at LIMIT ?)"
)


class SqliteQueue(SqliteView):
    """The changes of one transaction. `topics`: what to publish once it has been committed."""

    def __init__(self, connection: sqlite3.Connection, settings: JobsSettings) -> None:
        super().__init__(connection, settings)
        self.topics: list[bytes] = []

    def submit(self, new: NewJob) -> Submitted:
        if row := self._one(BY_ID, new.id):
            return Submitted(self._job(row), existing=False)
        if new.idempotency_key is not None and (row := self._one(BY_KEY, new.idempotency_key)):
            if row["fingerprint"] != new.fingerprint:
                raise key_is_taken()
            return Submitted(self._job(row), existing=True)
        self._make_room(new.model, len(new.payload))
        cursor = self._connection.execute(
            "INSERT INTO jobs (id, model, status, place, payload_bytes, parameters, fingerprint, idempotency_key, "
            "max_retries, created_at, queued_at, expires_at) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                new.id,
                new.model,
                self._next_place(),
                len(new.payload),
                new.parameters,
                new.fingerprint,
                new.idempotency_key,
                new.max_retries,
                self._now,
                self._now,
                self._now + new.ttl_seconds,
            ),
        )
        self._connection.execute("INSERT INTO payloads VALUES (?, ?)", (cursor.lastrowid, new.payload))
        self.topics.append(topic("work", new.model))
        return Submitted(self._job(self._find(new.id)), existing=False)

    def current(self, job_id: str) -> Job:
        """As `get`, after ending the job if its time has passed."""
        job, overdue = self.look(job_id)
        if overdue:
            row = self._find(job_id)
            self._finish(row, Status.EXPIRED, error=row["error"])
            job = self.get(job_id)
        return job

    def cancel(self, job_id: str) -> Job:
        row = self._find(job_id)
        if Status(row["status"]).finished:
            raise cannot_cancel(Status(row["status"]))
        self._finish(row, Status.CANCELLED, error=row["error"])
        return self.get(job_id)

    def retry(self, job_id: str, ttl_seconds: float) -> Job:
        self.current(job_id)
        row = self._find(job_id)
        if row["status"] not in (Status.FAILED, Status.EXPIRED):
            raise cannot_retry(Status(row["status"]))
        self._make_room(row["model"], row["payload_bytes"])
        self._connection.execute(
            "UPDATE jobs SET status = 'queued', place = ?, attempts = 0, owner = NULL, queued_at = ?, expires_at = ?, "
            "due_at = NULL, started_at = NULL, finished_at = NULL, forget_at = NULL, error = NULL WHERE number = ?",
            (self._next_place(), self._now, self._now + ttl_seconds, row["number"]),
        )
        self.topics.append(topic("work", row["model"]))
        return self.get(job_id)

    def claim(self, model: str, owner: str, limit: int) -> list[Claimed]:
        self.reclaim()
        self.expire()
        self._connection.execute(PROMOTE, (model, self._now, MOST_AT_ONCE))
        claimed: list[Claimed] = []
        for row in self._connection.execute(FIRST_READY, (model, self._now, limit)).fetchall():
            suspected = bool(row["died"])
            if suspected and claimed:
                break
            claimed.append(self._lease(row, owner))
            if suspected:
                break
        return claimed

    def renew(self, leases: Sequence[Lease]) -> set[str]:
        until = self._now + self._settings.lease_seconds
        held = [lease for lease in leases if self._held(lease)]
        self._connection.executemany(
            "UPDATE jobs SET leased_until = ? WHERE id = ?", [(until, lease.job_id) for lease in held]
        )
        return {lease.job_id for lease in held}

    def succeed(self, lease: Lease, result: bytes) -> bool:
        if row := self._held(lease):
            self._connection.execute("INSERT INTO results VALUES (?, ?)", (row["number"], result))
            self._finish(row, Status.SUCCEEDED)
            return True
        row = self._one(BY_ID, lease.job_id)
        return row is not None and (row["status"], row["owner"], row["attempts"]) == (
            Status.SUCCEEDED,
            lease.owner,
            lease.attempt,
        )

    def fail(self, lease: Lease, error: JobError, retryable: bool) -> bool:
        if row := self._held(lease):
            self._end_attempt(row, error, retryable=retryable, due_at=self._after_backoff(row))
        return row is not None

    def release(self, lease: Lease) -> bool:
        if row := self._held(lease):
            self._connection.execute(
                "UPDATE jobs SET status = 'queued', attempts = attempts - 1, owner = NULL, leased_until = NULL, "
                "started_at = CASE attempts WHEN 1 THEN NULL ELSE started_at END WHERE number = ?",
                (row["number"],),
            )
            self.topics.append(topic("work", row["model"]))
        return row is not None

    def abandon(self, owner: str) -> int:
        rows = self._connection.execute(OWNED, (owner,)).fetchall()
        for row in rows:
            self._end_attempt(row, WORKER_DIED, died=True, due_at=self._after_backoff(row))
        return len(rows)

    def maintain(self) -> bool:
        """Whether there may be more to do."""
        forgotten = self._connection.execute(FORGET, (self._now, MOST_AT_ONCE)).rowcount
        return max(self.reclaim(), self.expire(), forgotten) >= MOST_AT_ONCE

    def reclaim(self) -> int:
        """Give back leases that have run out; how many."""
        rows = self._connection.execute(RAN_OUT, (self._now, MOST_AT_ONCE)).fetchall()
        for row in rows:
            self._end_attempt(row, WORKER_DIED, died=True, due_at=None)
        return len(rows)

    def expire(self) -> int:
        """End jobs that were not begun in time; how many."""
        rows = self._connection.execute(OVERDUE, (self._now, MOST_AT_ONCE)).fetchall()
        for row in rows:
            self._finish(row, Status.EXPIRED, error=row["error"])
        return len(rows)

    def _lease(self, row: sqlite3.Row, owner: str) -> Claimed:
        attempt = row["attempts"] + 1
        self._connection.execute(
            "UPDATE jobs SET status = 'running', attempts = ?, owner = ?, leased_until = ?, started_at = ? "
            "WHERE number = ?",
            (attempt, owner, self._now + self._settings.lease_seconds, self._now, row["number"]),
        )
        return Claimed(
            Lease(row["id"], row["model"], owner, attempt),
            self._value("SELECT body FROM payloads WHERE number = ?", row["number"]),
            row["parameters"],
            row["created_at"],
            suspected=bool(row["died"]),
        )

    def _held(self, lease: Lease) -> sqlite3.Row | None:
        """The job while the lease holds; `None` once the job has ended or another worker has it."""
        return self._one(
            "SELECT * FROM jobs WHERE id = ? AND status = 'running' AND owner = ? AND attempts = ?",
            lease.job_id,
            lease.owner,
            lease.attempt,
        )

    def _after_backoff(self, row: sqlite3.Row) -> float:
        pauses = self._settings.backoff_seconds
        return self._now + pauses[min(row["attempts"], len(pauses)) - 1]

    def _end_attempt(
        self, row: sqlite3.Row, error: JobError, *, due_at: float | None, retryable: bool = True, died: bool = False
    ) -> None:
        text = json.dumps([error.code, error.message])  # ASCII: SQLite takes no half of a surrogate pair
        if not retryable or row["attempts"] > row["max_retries"]:
            self._finish(row, Status.FAILED, error=text)
        else:
            self._connection.execute(
                "UPDATE jobs SET status = 'queued', owner = NULL, leased_until = NULL, due_at = ?, error = ? "
                "WHERE number = ?",
                (due_at, text, row["number"]),
            )
            self.topics.append(topic("work", row["model"]))
        self._connection.execute("UPDATE jobs SET died = ? WHERE number = ?", (died, row["number"]))

    def _finish(self, row: sqlite3.Row, status: Status, *, error: str | None = None) -> None:
        keeps_input = status in (Status.FAILED, Status.EXPIRED)
        settings = self._settings
        kept = settings.failure_retention_seconds if keeps_input else settings.result_retention_seconds
        self._connection.execute(
            "UPDATE jobs SET status = ?, finished_at = ?, forget_at = ?, due_at = NULL, leased_until = NULL, error = ? "
            "WHERE number = ?",
            (status, self._now, self._now + kept, error, row["number"]),
        )
        if not keeps_input:
            self._connection.execute("DELETE FROM payloads WHERE number = ?", (row["number"],))
        self.topics.append(topic("job", row["id"]))

    def _next_place(self) -> int:
        place: int = self._value("UPDATE places SET last = last + 1 RETURNING last")
        return place

    def _make_room(self, model: str, size: int) -> None:
        """Raises OverloadedError when the queue is full of jobs that have not expired."""
        if self._is_full(model, size):
            self.expire()
            if self._is_full(model, size):
                jobs, _ = self._queued(model)
                raise queue_is_full(jobs, self._rate(model))

    def _is_full(self, model: str, size: int) -> bool:
        jobs, queued_bytes = self._queued(model)
        return jobs >= self._settings.max_queue_jobs or queued_bytes + size > self._settings.max_queue_bytes

    def _queued(self, model: str) -> tuple[int, int]:
        row = self._one("SELECT jobs, bytes FROM counts WHERE model = ? AND status = 'queued'", model)
        return (0, 0) if row is None else (row["jobs"], row["bytes"])
