"""The last step of an attempt: telling the store how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from serving.core.backoff import Backoff
from serving.core.errors import NotFoundError, UnavailableError
from serving.jobs.engine_call import Outcome
from serving.jobs.job import Claimed, Lease, Status
from serving.jobs.journal import Journal
from serving.jobs.leases import Leases
from serving.jobs.metrics import JobMetrics
from serving.jobs.store import JobStore
from serving.jobs.wakeup import Wakeup

logger = logging.getLogger("serving.jobs.worker")


class Recorder:
    """Holds the jobs that this process has claimed, until the store knows their outcomes.

    Every method is for the thread of one event loop.
    """

    def __init__(self, store: JobStore, leases: Leases, metrics: JobMetrics, journal: Journal) -> None:
        self._store = store
        self._leases = leases
        self._metrics = metrics
        self._journal = journal
        self._held: set[Lease] = set()
        self._wakeup = Wakeup()

    @property
    def held(self) -> frozenset[Lease]:
        """Claimed by this process, with no outcome in the store yet."""
        return frozenset(self._held)

    async def until_held(self, most: int) -> None:
        """Return once at most `most` jobs are held."""
        await self._wakeup.until(lambda: len(self._held) <= most)

    def hold(self, lease: Lease) -> None:
        self._held.add(lease)
        self._leases.hold(lease)

    def lost(self, claimed: Claimed) -> bool:
        """Whether the lease of a job is lost, so that its result would be refused."""
        return self._leases.lost(claimed.lease)

    async def record(self, claimed: Claimed, outcome: Outcome) -> None:
        """Tell the store how the attempt ended. While the store is down this repeats until the lease is lost."""
        lease = claimed.lease
        if isinstance(outcome, bytes):
            recorded = await self._tell(lease, lambda: self._store.succeed(lease, outcome))
            self._over(lease, "succeeded" if recorded else "lost")
            if recorded:
                self._metrics.finished(lease.model, Status.SUCCEEDED)
            return
        recorded = await self._tell(lease, lambda: self._store.fail(lease, outcome.error, retryable=outcome.retryable))
        self._over(lease, "failed" if recorded else "lost")
        if recorded and (not outcome.retryable or await self._has_failed(lease)):
            self._metrics.finished(lease.model, Status.FAILED)

    async def release(self, lease: Lease) -> None:
        """Give a job back that has not been started, or that cannot be finished any more."""
        released = await self._tell(lease, lambda: self._store.release(lease))
        self._over(lease, "released" if released else "lost")

    def drop(self, lease: Lease) -> None:
        """Go on without a job whose lease is lost."""
        self._over(lease, "lost")

    def _over(self, lease: Lease, outcome: str) -> None:
        self._leases.drop(lease)
        self._metrics.attempt(lease.model, outcome)
        self._journal.over()
        self._held.discard(lease)
        self._wakeup.notify()

    async def _tell(self, lease: Lease, tell: Callable[[], Awaitable[bool]]) -> bool:
        backoff = Backoff()
        while True:
            try:
                return await tell()
            except UnavailableError as error:
                logger.warning("job %s: the store cannot be told, trying again: %s", lease.job_id, error.message)
            except Exception:
                # A fault in the store or in this program. Repeating would not end; the lease runs out instead.
                logger.exception("job %s: the store cannot be told how the attempt ended", lease.job_id)
                return False
            if self._leases.lost(lease):
                return False
            await asyncio.sleep(backoff.next())

    async def _has_failed(self, lease: Lease) -> bool:
        """Whether that was the last attempt; false when the store is away, since only a counter needs it."""
        try:
            return (await self._store.get(lease.job_id)).status is Status.FAILED
        except (UnavailableError, NotFoundError):
            return False
