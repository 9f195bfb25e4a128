"""The worker: takes jobs from the store, runs them on engines of its own and records what came of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving.core.backoff import wait_for
from serving.engines.session import available_cores
from serving.jobs.journal import Journal
from serving.jobs.lane import Lane
from serving.jobs.leases import Leases
from serving.jobs.recorder import Recorder
from serving.jobs.store import JobStore
from serving.jobs.upkeep import Upkeep
from serving.jobs.watchdog import Watchdog
from serving.jobs.work import Work
from serving.metrics.jobs import JobMetrics
from serving.settings import Settings

logger = logging.getLogger("serving.jobs.worker")

_RELEASE_SECONDS = 1.0


def drain_limit(drain_seconds: float) -> float:
    """How long running jobs may take to finish: what is left of `serving.drain_seconds` is for giving the rest back."""
    return max(drain_seconds - _RELEASE_SECONDS, drain_seconds / 2)


class Worker:
    """Runs jobs of several models until it is told to drain. Nothing that a store or a job does ends it.

    Args:
        owner: of its leases; another one for each start of a process.
        works: by model.
        make_store: called twice: leases are renewed over connections of their own.
        watchdog: started already.
        eager: load the engines before the first job comes.
        journal: tells the supervisor what waits; there need not be one.
    """

    def __init__(
        self,
        *,
        owner: str,
        works: Mapping[str, Work],
        settings: Settings,
        make_store: Callable[[], JobStore],
        metrics: JobMetrics,
        watchdog: Watchdog,
        concurrency: int = 1,
        eager: bool = True,
        journal: Journal | None = None,
    ) -> None:
        self._settings = settings
        self._eager = eager
        journal = journal or Journal()
        self._store = make_store()
        self._upkeep = Upkeep(self._store, tell=partial(metrics.stored, models=list(works)))
        self._leases = Leases(make_store, lease_seconds=settings.jobs.lease_seconds)
        self._recorder = Recorder(self._store, self._leases, metrics, journal)
        self._decoders = ThreadPoolExecutor(settings.inception_v3.image.decode_threads or available_cores(), "decode")
        claiming = asyncio.Lock()
        self._lanes = [
            Lane(
                model,
                work,
                owner=owner,
                store=self._store,
                recorder=self._recorder,
                watchdog=watchdog,
                metrics=metrics,
                journal=journal,
                claiming=claiming,
                concurrency=concurrency,
                decoders=self._decoders,
            )
            for model, work in works.items()
        ]
        self._draining = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._loaded = False

    @property
    def ready(self) -> bool:
        """Engines are loaded or need not be yet, the store answers, and it is not draining."""
        return self._loaded and not self._upkeep.away and not self._draining.is_set()

    def drain(self) -> None:
        """Finish what runs, give back what has not been started. Again it changes nothing."""
        self._draining.set()

    def hurry(self) -> None:
        """Drain, and give back what runs too."""
        self._draining.set()
        self._hurrying.set()

    async def run(self) -> bool:
        """Until it has drained; false when jobs had to be given back in the middle of their runs.

        The threads of such jobs still run then: the process has to be ended without waiting for them.

        Raises:
            ModelError: an engine cannot be loaded.
        """
        await self._upkeep.start()
        self._leases.start()
        finished = False
        try:
            finished = await self._run_lanes()
        finally:
            await asyncio.to_thread(self._leases.stop)
            await self._upkeep.stop()
            self._decoders.shutdown(wait=finished)
        return finished

    async def _run_lanes(self) -> bool:
        if self._eager:
            await asyncio.gather(*(lane.open() for lane in self._lanes))
        self._loaded = True
        logger.info("worker for jobs of %s", ", ".join(lane.model for lane in self._lanes))
        lanes = asyncio.gather(*(lane.run() for lane in self._lanes))
        drained = asyncio.create_task(self._drain_lanes())
        try:
            await asyncio.wait((lanes, drained), return_when=asyncio.FIRST_COMPLETED)
            if lanes.done():
                lanes.result()
                return True
        finally:
            drained.cancel()
            lanes.cancel()
            await asyncio.gather(lanes, drained, return_exceptions=True)
        return False

    async def _drain_lanes(self) -> None:
        """Ends when the time for draining has ended before the jobs have."""
        await self._draining.wait()
        logger.info("draining: %d jobs to finish or to give back", len(self._recorder.held))
        draining = asyncio.gather(*(lane.drain() for lane in self._lanes))
        try:
            await wait_for(self._hurrying, drain_limit(self._settings.serving.drain_seconds))
            held = self._recorder.held
            logger.warning("giving back unfinished: jobs %s", ", ".join(lease.job_id for lease in held) or "none")
            async with asyncio.timeout(_RELEASE_SECONDS):
                await asyncio.gather(*(self._recorder.release(lease) for lease in held))
        except TimeoutError:
            logger.warning("the store could not be told in time; the leases run out by themselves")
        finally:
            draining.cancel()
