"""One test's queue, its workers and what they wrote down."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from serving.jobs.job import Job, NewJob, Status, new_job_id
from serving.jobs.store import JobStore, open_store
from serving.settings import ENV_PREFIX
from serving.settings.jobs import JobsSettings
from tests.faults.worker_tree import WorkerTree
from tests.faults.works import BATCH_VARIABLE, DIRECTORY_VARIABLE, MODEL, Line, Order, gate_file, read_lines

# Short, to save time; with 15 it is the one that the settings have and the jobs take a second.
LEASE_SECONDS = float(os.environ.get("FAULTS_LEASE_SECONDS", "2"))
JOB_SECONDS = min(1.0, LEASE_SECONDS / 5)
# By the end of a lease, and not by something that looks once a minute; the rest is for a machine that does much else.
RERUN_SECONDS = LEASE_SECONDS + max(LEASE_SECONDS / 2, 15.0)
# For what has to happen some time, on a machine that does much else.
LONG_SECONDS = 100.0 + 4 * LEASE_SECONDS
_LOOK_SECONDS = 0.02
_LOG_LINES = 40


class Scene:
    """`async with Scene(directory, url, …)`: a store of the test's own; workers are killed at the end.

    Args:
        url: of the store.
        settings: others than the defaults of `JobsSettings` and of these tests.
    """

    def __init__(self, directory: Path, url: str, **settings: Any) -> None:
        self.directory = directory
        self.settings: dict[str, Any] = {
            "url": url,
            "namespace": f"faults-{new_job_id()}",
            "lease_seconds": LEASE_SECONDS,
            "backoff_seconds": [0.2],
            **settings,
        }
        self.workers: list[WorkerTree] = []
        self.measured: dict[str, float] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.store: JobStore = open_store(JobsSettings(**self.settings))
        self._stack.push_async_callback(self.store.close)
        await self.store.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        await self._stack.aclose()

    def start_worker(self, *, concurrency: int = 1, batch: int = 1) -> WorkerTree:
        """Another supervisor with a worker. `batch`: most jobs of one engine call."""
        variables = {
            f"{ENV_PREFIX}JOBS__{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in self.settings.items()
        }
        variables |= {DIRECTORY_VARIABLE: str(self.directory), BATCH_VARIABLE: str(batch)}
        log = self.directory / f"worker-{len(self.workers)}.log"
        self.workers.append(WorkerTree(log, variables, concurrency=concurrency))
        return self.workers[-1]

    async def start_ready_worker(self, *, concurrency: int = 1, batch: int = 1) -> WorkerTree:
        """As `start_worker`, once it takes jobs."""
        worker = self.start_worker(concurrency=concurrency, batch=batch)
        await self.until(lambda: self._is_ready(worker), "a worker is ready")
        return worker

    async def start_ready_workers(self, count: int, *, concurrency: int = 1) -> list[WorkerTree]:
        """As `start_ready_worker`, all at the same time."""
        workers = [self.start_worker(concurrency=concurrency) for _ in range(count)]
        await self.until(lambda: all(self._is_ready(worker) for worker in workers), "the workers are ready")
        return workers

    def _is_ready(self, worker: WorkerTree) -> bool:
        assert worker.alive, "the supervisor has ended"
        process = worker.worker()
        return process is not None and any(line.pid == process.pid for line in self.lines("open"))

    async def submit(self, order: Order, *, max_retries: int = 10) -> str:
        new = NewJob(new_job_id(), MODEL, order.encode(), "{}", max_retries, ttl_seconds=3600)
        return (await self.store.submit(new)).job.id

    async def finished(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """All of them, by id, once they have finished."""
        deadline = time.monotonic() + LONG_SECONDS
        found: dict[str, Job] = {}
        for job_id in job_ids:
            found[job_id] = await self.store.wait(job_id, max(0.0, deadline - time.monotonic()))
            assert found[job_id].status.finished, self.report(f"{found[job_id]} has not finished")
        return found

    async def with_status(self, status: Status) -> set[str]:
        return {job.id for job in (await self.store.page(status=status, limit=500)).jobs}

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once it holds."""
        deadline = time.monotonic() + LONG_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.report(f"it never came true that {what}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def until_started(self, *job_ids: str, attempt: int = 1) -> None:
        await self.until(lambda: set(job_ids) <= self._reached("start", attempt), f"{job_ids} have started")

    async def until_ended(self, *job_ids: str, attempt: int = 1) -> None:
        """The engine call is over; the store may not know it yet."""
        await self.until(lambda: set(job_ids) <= self._reached("end", attempt), f"{job_ids} have ended")

    def _reached(self, what: str, attempt: int) -> set[str]:
        return {line.job_id for line in self.lines(what) if line.attempt == attempt}

    def lines(self, what: str, job_id: str | None = None) -> list[Line]:
        return [line for line in read_lines(self.directory) if line.what == what and job_id in (None, line.job_id)]

    def open_gate(self, name: str) -> None:
        gate_file(self.directory, name).touch()

    def measure(self, name: str, seconds: float) -> float:
        """Shown with `pytest -s` and in the report of a failure."""
        self.measured[name] = seconds
        print(f"{name}: {seconds:.2f} s (lease {self.settings['lease_seconds']:g} s)")
        return seconds

    async def check_once(self, jobs: dict[str, Job]) -> None:
        """Every job has succeeded, and with one result: that of its last attempt, which was started once.

        `jobs` are as they were seen first; workers that could still record something have to be gone.
        """
        starts = Counter((line.job_id, line.attempt) for line in self.lines("start"))
        for job_id, before in jobs.items():
            job = await self.store.get(job_id)
            assert job.status is Status.SUCCEEDED, self.report(f"{job}")
            assert job.result is not None
            assert job == before, self.report("a result was recorded twice")
            assert json.loads(job.result)["attempt"] == job.attempts, self.report(f"{job}: another attempt's result")
            assert starts[job_id, job.attempts] == 1, self.report(f"{job}: runs of the last attempt")
        assert set(starts.values()) <= {1}, self.report(f"attempts that ran twice: {starts}")

    def report(self, what: str) -> str:
        """What is wrong, with the last lines of all logs."""
        logs = [f"{worker.log.name}:\n" + "\n".join(_tail(worker.log)) for worker in self.workers]
        return "\n".join([what, *logs])


def _tail(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
