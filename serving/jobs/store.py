"""What every job store can do, and which one a URL names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.core.errors import ConfigurationError
from serving.jobs.job import Claimed, Job, JobError, JobPage, Lease, ModelStats, NewJob, Status, Submitted
from serving.settings.jobs import JobsSettings


class JobStore(Protocol):
    """A durable queue with leases. Delivery is at least once; the order is first in, first out for each model.

    A job that waits for another attempt, or whose worker is gone, keeps its place. Every method is one atomic step:
    after a crash of either side it has happened or it has not. Methods are called in one event loop and never block
    it. While the store cannot be reached they raise UnavailableError (with `retry_after`); they may be called again.
    """

    async def open(self) -> None:
        """Connect; make the tables of a new store.

        Raises:
            UnavailableError: it cannot be reached. The methods connect by themselves once it can be.
        """

    async def close(self) -> None:
        """Close connections and wake all waiters."""

    async def submit(self, new: NewJob) -> Submitted:
        """Accept a job; when this returns the store has it. The same `new.id` again changes nothing.

        Raises:
            OverloadedError: the model's queue has `max_queue_jobs` or `max_queue_bytes`; `retry_after` is from the
                measured rate.
            ConflictError: the idempotency key was used for a request with another fingerprint.
        """

    async def get(self, job_id: str) -> Job:
        """With `result` and `position`.

        Raises:
            NotFoundError: unknown, or its retention has ended.
        """

    async def wait(self, job_id: str, seconds: float) -> Job:
        """As `get`, once the job has finished or `seconds` have passed. Holds no thread and no connection.

        Raises:
            NotFoundError: as `get`.
        """

    async def page(
        self, *, status: Status | None = None, model: str | None = None, limit: int = 50, after: str | None = None
    ) -> JobPage:
        """Newest first. `after` is the `next` of the page before.

        Raises:
            InvalidInputError: `after` is not a cursor.
        """

    async def cancel(self, job_id: str) -> Job:
        """End a queued or running job as `cancelled`; the result of the running attempt will be refused.

        Raises:
            NotFoundError: as `get`.
            ConflictError: it has finished.
        """

    async def retry(self, job_id: str, *, ttl_seconds: float) -> Job:
        """Queue a failed or expired job again, at the end of the queue, with no attempts used.

        Raises:
            NotFoundError: as `get`.
            ConflictError: it has neither failed nor expired, or the store has lost its input.
            OverloadedError: as `submit`.
        """

    async def stats(self) -> dict[str, ModelStats]:
        """By model, of those that have jobs."""

    async def wait_for_work(self, model: str, seconds: float) -> None:
        """Return when there may be something to claim, or after `seconds`."""

    async def claim(self, model: str, owner: str, *, limit: int) -> list[Claimed]:
        """Up to `limit` jobs that are due, oldest first, each with a lease of `lease_seconds` and one attempt used.

        Leases that have run out are given back first, and what has expired is never given. A job whose last attempt
        ended with its worker's death (`suspected`) is given alone, so that it cannot take neighbours with it again.
        """

    async def renew(self, leases: Sequence[Lease]) -> set[str]:
        """Extend the leases by `lease_seconds` from now; the ids of those that still hold."""

    async def succeed(self, lease: Lease, result: bytes) -> bool:
        """Record the result (JSON) and delete the payload; false when the lease no longer holds."""

    async def fail(self, lease: Lease, error: JobError, *, retryable: bool) -> bool:
        """Record a failed attempt: queue the job again after its backoff, or end it as `failed` when it is not
        retryable or its attempts are used up. False when the lease no longer holds.
        """

    async def release(self, lease: Lease) -> bool:
        """Give the job back unstarted, as a draining worker does: no attempt is used. False as in `succeed`."""

    async def abandon(self, owner: str) -> int:
        """Fail the attempts of a worker that is known to be dead, as `fail` with `worker_died`; how many."""

    async def maintain(self) -> None:
        """Give back leases that have run out, end what has expired, forget what retention has passed for.

        A lease that ran out used up its attempt: the job is due at once, or `failed` (`worker_died`) after the last.
        """


def open_store(settings: JobsSettings) -> JobStore:
    """The store that `jobs.url` names; not opened yet.

    Raises:
        ConfigurationError: the URL is not valid. The message does not repeat it, as it may hold a password.
    """
    scheme = settings.url.partition(":")[0]
    if scheme == "sqlite":
        from serving.jobs.sqlite_store import SqliteJobStore

        return SqliteJobStore(settings)
    if scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"):
        from serving.jobs.redis_store import RedisJobStore

        return RedisJobStore(settings)
    raise ConfigurationError(
        "jobs.url: sqlite:///file.db, redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel:// is required"
    )
