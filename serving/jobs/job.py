"""What a job is: the records that the stores, the workers and the API share, and what callers are told of a refusal.

Times are seconds since the epoch on the clock of the store: of the Redis server, or of the one host that an SQLite
file is for. So hosts whose clocks differ agree on leases and deadlines.

A store reports the state that it has found; the sentences are here, so that every store says the same.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from serving.core.errors import ConflictError, InvalidInputError, NotFoundError, OverloadedError

_LONGEST_RETRY_SECONDS = 60


class Status(StrEnum):
    """Where a job is on its way. `queued` includes jobs that wait for another attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self not in (Status.QUEUED, Status.RUNNING)


def new_job_id() -> str:
    """128 random bits: nobody can guess the id of another caller's job."""
    job_id = secrets.token_urlsafe(16)
    while job_id.startswith("-"):  # a command line would read it as an option
        job_id = secrets.token_urlsafe(16)
    return job_id


@dataclass(frozen=True, slots=True)
class JobError:
    """Why the last attempt failed, in the words of the API's errors: `code` for programs, `message` for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to submit.

    `payload` and `parameters` are what a prediction needs, in the form that `serving.jobs.work` writes and reads;
    stores do not look into them. `fingerprint` is the same for the same request, another for any other; it is
    compared when `idempotency_key` is met again.
    """

    id: str
    model: str
    payload: bytes
    parameters: str
    max_retries: int
    ttl_seconds: float
    fingerprint: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a caller sees it.

    Attributes:
        attempts: runs that were started.
        due_at: when the next attempt may start, for a queued job that waits after a failed attempt.
        position: jobs of the same model before this one; for a queued job that is asked for by its id only.
        result: the body that `/predict` would have answered, as JSON; for a succeeded job asked for by its id only.
        error: of a failed job, and of the last attempt of a job that waits for another.
    """

    id: str
    model: str
    status: Status
    attempts: int
    max_retries: int
    created_at: float
    expires_at: float
    started_at: float | None = None
    finished_at: float | None = None
    due_at: float | None = None
    error: JobError | None = None
    result: bytes | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """`existing` is true when an earlier request with the same idempotency key made the job."""

    job: Job
    existing: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to finish one attempt of a job: it ends when it is not renewed, or with the job."""

    job_id: str
    model: str
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that a worker has been given.

    Attributes:
        suspected: its last attempt ended with the death of its worker, which it may have caused.
    """

    lease: Lease
    payload: bytes
    parameters: str
    created_at: float
    suspected: bool


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next` is the cursor of the page that follows, `None` on the last."""

    jobs: list[Job]
    next: str | None


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model's jobs that are kept.

    Attributes:
        counts: by status; every status is there.
        oldest_queued_seconds: age of the oldest queued job, 0 when none waits.
        queued_bytes: payloads of the jobs that are queued.
        finished_per_second: succeeded and failed, over the last minute.
    """

    counts: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    oldest_queued_seconds: float = 0.0
    queued_bytes: int = 0
    finished_per_second: float = 0.0


WORKER_DIED = JobError("worker_died", "the worker that ran the job ended before the job did")
INPUT_LOST = JobError("input_lost", "the store has lost the input of the job")


def not_found() -> NotFoundError:
    """The job is unknown, or its retention has ended."""
    return NotFoundError("there is no such job; it may have been deleted at the end of its retention")


def key_is_taken() -> ConflictError:
    """The idempotency key of a submission belongs to a job with another fingerprint."""
    return ConflictError("the idempotency key was used for another request")


def cannot_cancel(status: Status) -> ConflictError:
    """Only a job that has not finished can be cancelled."""
    return ConflictError(f"only a queued or running job can be cancelled; this one is {status}")


def cannot_retry(status: Status) -> ConflictError:
    """Only a job that keeps its input can be queued again."""
    return ConflictError(f"only a failed or expired job can be retried; this one is {status}")


def cannot_retry_without_input() -> ConflictError:
    """The store has lost the input of a job that may be retried."""
    return ConflictError(f"the job cannot be retried: {INPUT_LOST.message}")


def not_a_cursor() -> InvalidInputError:
    """`after` of a page does not come from a page."""
    return InvalidInputError("after: this is not the `next` of a page")


def queue_is_full(jobs: int, rate: float) -> OverloadedError:
    """The queue of a model is full.

    Args:
        jobs: how many are queued.
        rate: jobs that are finished per second; 0 when it is not known.
    """
    seconds = math.ceil(jobs / rate) if rate else _LONGEST_RETRY_SECONDS
    return OverloadedError(
        f"{jobs} jobs are queued already; try again later", retry_after=min(max(1, seconds), _LONGEST_RETRY_SECONDS)
    )
