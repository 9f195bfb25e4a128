"""The worker: takes jobs from the store, runs them on engines of its own and records the outcomes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from serving.core.backoff import wait_for
from serving.jobs.journal import Journal
from serving.jobs.leases import Leases
from serving.jobs.maintenance import Maintenance
from serving.jobs.metrics import JobMetrics
from serving.jobs.model_worker import ModelWorker
from serving.jobs.recorder import Recorder
from serving.jobs.store import JobStore
from serving.jobs.watchdog import Watchdog
from serving.jobs.work import Work
from serving.settings import Settings

logger = logging.getLogger("serving.jobs.worker")

_RELEASE_SECONDS = 1.0


def drain_limit(drain_seconds: float) -> float:
    """How long running jobs may take to finish. The rest of `server.drain_seconds` is for giving jobs back."""
    return max(drain_seconds - _RELEASE_SECONDS, drain_seconds / 2)


class Worker:
    """Runs jobs of several models until it is told to drain. No error of a store or a job ends it.

    Args:
        owner: name of the owner of its leases, unique for each start of a process.
        works: by model.
        make_store: called twice, since leases are renewed over connections of their own.
        watchdog: already started.
        eager: load the engines before the first job comes.
        journal: tells the supervisor which jobs wait; without one nobody is told.
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
        self._maintenance = Maintenance(self._store, tell=partial(metrics.stored, models=list(works)))
        self._leases = Leases(make_store, lease_seconds=settings.jobs.lease_seconds)
        self._recorder = Recorder(self._store, self._leases, metrics, journal)
        claiming = asyncio.Lock()
        self._models = [
            ModelWorker(
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
            )
            for model, work in works.items()
        ]
        self._draining = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._loaded = False

    @property
    def ready(self) -> bool:
        """Engines are loaded or need not be yet, the store answers, and it is not draining."""
        return self._loaded and not self._maintenance.away and not self._draining.is_set()

    def drain(self) -> None:
        """Finish running jobs and give back those that have not been started. Idempotent."""
        self._draining.set()

    def hurry(self) -> None:
        """Drain, and give back running jobs too."""
        self._draining.set()
        self._hurrying.set()

    async def run(self) -> bool:
        """Until it has drained; false when running jobs had to be given back.

        The threads of such jobs still run then: the process has to end without waiting for them.

        Raises:
            ModelError: an engine cannot be loaded.
        """
        await self._maintenance.start()
        self._leases.start()
        finished = False
        try:
            finished = await self._run_models()
        finally:
            await asyncio.to_thread(self._leases.stop)
            await self._maintenance.stop()
            for model in self._models:
                model.close(wait=finished)
        return finished

    async def _run_models(self) -> bool:
        if self._eager:
            await asyncio.gather(*(model.open() for model in self._models))
        self._loaded = True
        logger.info("worker for jobs of %s", ", ".join(model.model for model in self._models))
        running = asyncio.gather(*(model.run() for model in self._models))
        drained = asyncio.create_task(self._drain_models())
        try:
            await asyncio.wait((running, drained), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
                return True
        finally:
            drained.cancel()
            running.cancel()
            await asyncio.gather(running, drained, return_exceptions=True)
        return False

    async def _drain_models(self) -> None:
        """Returns when the time for draining is over and jobs still run."""
        await self._draining.wait()
        logger.info("draining: %d jobs to finish or to give back", len(self._recorder.held))
        draining = asyncio.gather(*(model.drain() for model in self._models))
        try:
            await wait_for(self._hurrying, drain_limit(self._settings.server.drain_seconds))
            held = self._recorder.held
            logger.warning("giving back unfinished: jobs %s", ", ".join(lease.job_id for lease in held) or "none")
            async with asyncio.timeout(_RELEASE_SECONDS):
                await asyncio.gather(*(self._recorder.release(lease) for lease in held))
        except TimeoutError:
            logger.warning("the store could not be told in time; the leases run out by themselves")
        finally:
            draining.cancel()
