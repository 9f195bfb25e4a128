"""The part of a worker that serves one model: it claims jobs, decodes them, runs them and records the outcomes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from serving.core.backoff import Backoff, wait_for
from serving.core.errors import UnavailableError
from serving.jobs.engine_call import EngineCall, Failure, Ready, failure
from serving.jobs.job import Claimed
from serving.jobs.journal import Journal
from serving.jobs.metrics import JobMetrics
from serving.jobs.recorder import Recorder
from serving.jobs.store import JobStore
from serving.jobs.wakeup import Wakeup
from serving.jobs.watchdog import Watchdog
from serving.jobs.work import Work

logger = logging.getLogger("serving.jobs.worker")

# The death of a worker costs every job that it holds an attempt, so it holds few even where batches are large.
_MOST_JOBS = 64
# Stores wake those who wait. The limit is for changes without an event, such as a lease that runs out.
_WAIT_SECONDS = 1.0


class ModelWorker:
    """Takes jobs of one model, at most one batch ahead of the engine, so that decoding overlaps with engine calls.

    Args:
        claiming: a lock that all models of a worker share; claiming takes it. A job that is suspected of having
            killed its worker runs while the lock is held and no other job is: it can then take no neighbour with it.
        concurrency: engine calls at a time.
    """

    def __init__(
        self,
        model: str,
        work: Work,
        *,
        owner: str,
        store: JobStore,
        recorder: Recorder,
        watchdog: Watchdog,
        metrics: JobMetrics,
        journal: Journal,
        claiming: asyncio.Lock,
        concurrency: int,
    ) -> None:
        self.model = model
        self._work = work
        self._call = EngineCall(work)
        self._owner = owner
        self._store = store
        self._recorder = recorder
        self._watchdog = watchdog
        self._metrics = metrics
        self._journal = journal
        self._claiming = claiming
        self._concurrency = concurrency
        self._decode_threads = ThreadPoolExecutor(work.decode_threads, f"decode-{model}")
        self._engine_threads = ThreadPoolExecutor(concurrency, f"engine-{model}")
        self._limit = min(work.max_batch_rows, _MOST_JOBS)
        self._ready: deque[Ready] = deque()
        self._wakeup = Wakeup()
        self._draining = asyncio.Event()
        self._recording: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Load the engine now rather than at the first job."""
        await asyncio.get_running_loop().run_in_executor(self._engine_threads, self._call.open)

    async def run(self) -> None:
        """Until `drain` has been called and the outcomes of the running jobs are recorded."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed())
            for _ in range(self._concurrency):
                tasks.create_task(self._run_batches())
        if self._recording:
            await asyncio.wait(self._recording)
        self._engine_threads.shutdown()

    def close(self, *, wait: bool) -> None:
        """End the decoding threads; `wait` for those that are busy."""
        self._decode_threads.shutdown(wait=wait)

    async def drain(self) -> None:
        """Claim no more jobs and give back those that have not been started."""
        self._draining.set()
        unstarted = list(self._ready)
        self._ready.clear()
        self._wakeup.notify()
        self._journal.begun(ready.claimed.lease for ready in unstarted)
        await asyncio.gather(*(self._recorder.release(ready.claimed.lease) for ready in unstarted))

    async def _feed(self) -> None:
        backoff = Backoff()
        while not self._draining.is_set():
            await self._wakeup.until(lambda: self._room() > 0 or self._draining.is_set())
            try:
                complete = await self._claim()
                if not complete:
                    await self._wait_for_work()
            except UnavailableError as error:
                logger.warning("%s: no jobs can be claimed, trying again: %s", self.model, error.message)
            except Exception:
                logger.exception("%s: no jobs can be claimed, trying again", self.model)
            else:
                backoff.reset()
                continue
            await wait_for(self._draining, backoff.next())

    def _room(self) -> int:
        # Results that wait for a store that is down count too, since they are in memory as well.
        return 0 if len(self._recording) >= self._limit else self._limit - len(self._ready)

    async def _claim(self) -> bool:
        """Claim and decode as many jobs as there is room for; false when the store had fewer."""
        async with self._claiming:
            room = self._room()
            if self._draining.is_set() or room <= 0:
                return True
            claimed = await self._store.claim(self.model, self._owner, limit=room)
            for one in claimed:
                self._recorder.hold(one.lease)
            if claimed and claimed[0].suspected:
                await self._prepare_suspect(claimed)
                return True
        await self._prepare(claimed)
        return len(claimed) == room

    async def _prepare_suspect(self, claimed: Sequence[Claimed]) -> None:
        """Run it while no other job is held."""
        await self._recorder.until_held(len(claimed))
        await self._prepare(claimed)
        await self._recorder.until_held(0)

    async def _prepare(self, claimed: Sequence[Claimed]) -> None:
        """Decode. Jobs that can be decoded become ready together; each of the others fails alone."""
        if not claimed:
            return
        loop = asyncio.get_running_loop()
        with self._watchdog.watch([one.lease.job_id for one in claimed]):
            found = await asyncio.gather(
                *(loop.run_in_executor(self._decode_threads, self._prepare_one, one) for one in claimed)
            )
        ready = [one for one in found if isinstance(one, Ready)]
        for one, outcome in zip(claimed, found, strict=True):
            if isinstance(outcome, Failure):
                self._record(one, outcome)
        if not self._draining.is_set():
            self._journal.waiting(one.claimed.lease for one in ready)
            self._ready.extend(ready)
            self._wakeup.notify()
            return
        await asyncio.gather(*(self._recorder.release(one.claimed.lease) for one in ready))

    def _prepare_one(self, claimed: Claimed) -> Ready | Failure:
        try:
            return Ready(claimed, self._work.prepare(claimed))
        except Exception as error:  # noqa: BLE001 - a payload that cannot be decoded fails its own job only
            return failure(error, claimed)

    async def _wait_for_work(self) -> None:
        """Until there may be work, or the drain begins."""
        work = asyncio.ensure_future(self._store.wait_for_work(self.model, _WAIT_SECONDS))
        drain = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait((work, drain), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            drain.cancel()
            await asyncio.gather(work, drain, return_exceptions=True)

    async def _run_batches(self) -> None:
        while batch := await self._take():
            await self._run(batch)

    async def _take(self) -> list[Ready]:
        """The next batch, first come first served; empty once the drain has begun."""
        await self._wakeup.until(lambda: bool(self._ready) or self._draining.is_set())
        batch: list[Ready] = []
        rows = 0
        while self._ready and not self._draining.is_set():
            rows += self._ready[0].prepared.rows
            if batch and rows > self._work.max_batch_rows:
                break
            batch.append(self._ready.popleft())
        self._journal.begun(ready.claimed.lease for ready in batch)
        self._wakeup.notify()
        return batch

    async def _run(self, batch: list[Ready]) -> None:
        for ready in [ready for ready in batch if self._recorder.lost(ready.claimed)]:
            batch.remove(ready)
            self._recorder.drop(ready.claimed.lease)
        if not batch:
            return
        for ready in batch:
            if ready.claimed.lease.attempt == 1:
                self._metrics.started(self.model, waited_seconds=max(0.0, time.time() - ready.claimed.created_at))
        started = time.monotonic()
        with self._watchdog.watch([ready.claimed.lease.job_id for ready in batch]):
            outcomes = await asyncio.get_running_loop().run_in_executor(self._engine_threads, self._call, batch)
        seconds = time.monotonic() - started
        for ready, outcome in zip(batch, outcomes, strict=True):
            self._metrics.ran(self.model, seconds)
            self._record(ready.claimed, outcome)

    def _record(self, claimed: Claimed, outcome: bytes | Failure) -> None:
        """Record while the next batch runs: the engine does not wait for the store."""
        task = asyncio.get_running_loop().create_task(self._recorder.record(claimed, outcome))
        self._recording.add(task)
        task.add_done_callback(self._recorded)

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._recording.discard(task)
        self._wakeup.notify()
        task.result()  # an error here is a fault of this program and belongs into the log
