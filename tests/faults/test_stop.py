"""Workers that are told to stop under load, and workers whose host stalls."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from serving.jobs.job import Status
from tests.faults.scene import JOB_SECONDS, LEASE_SECONDS, Scene
from tests.faults.worker_tree import WorkerTree
from tests.faults.works import Order

pytestmark = pytest.mark.anyio


async def test_a_stopped_worker_finishes_or_gives_back_what_it_has(scene: Scene) -> None:
    job_ids = [await scene.submit(Order(seconds=JOB_SECONDS), max_retries=0) for _ in range(30)]
    worker = scene.start_worker(concurrency=2, batch=2)
    await scene.until(lambda: len(scene.lines("end")) >= 3, "jobs have been done and others run")
    assert worker.terminate() == 0
    jobs = {job_id: await scene.store.get(job_id) for job_id in job_ids}
    done = {job_id: job for job_id, job in jobs.items() if job.status is Status.SUCCEEDED}
    queued = {job_id: job for job_id, job in jobs.items() if job.status is Status.QUEUED}
    assert done | queued == jobs, "the worker has left something behind"
    assert all(job.attempts == 1 for job in done.values())
    assert all((job.attempts, job.started_at, job.error) == (0, None, None) for job in queued.values())
    started = {line.job_id for line in scene.lines("start")}
    assert started == set(done)
    assert queued, "nothing was left to give back"
    await scene.check_once(done)

    successor = scene.start_worker(concurrency=2, batch=16)
    jobs = await scene.finished(job_ids)
    assert all(job.attempts == 1 for job in jobs.values())
    assert successor.terminate() == 0
    await scene.check_once(jobs)


async def test_the_late_result_of_a_stalled_worker_is_refused(scene: Scene) -> None:
    """Its job has been done by another worker meanwhile."""
    stalled = await scene.start_ready_worker()
    job_id = await scene.submit(Order(gate="late", gated_attempts=1))
    await scene.until_started(job_id)
    await suspend_between_writes(scene, stalled)
    await scene.start_ready_worker()
    jobs = await scene.finished([job_id])
    started_at = jobs[job_id].started_at
    assert started_at is not None
    scene.measure("stall: run again", started_at - scene.lines("start", job_id)[0].at)
    assert (jobs[job_id].status, jobs[job_id].attempts) == (Status.SUCCEEDED, 2)

    scene.open_gate("late")
    assert not [line for line in scene.lines("end", job_id) if line.attempt == 1]
    stalled.resume()
    await scene.until_ended(job_id, attempt=1)
    for worker in scene.workers:
        assert worker.terminate() == 0
    await scene.check_once(jobs)


async def suspend_between_writes(scene: Scene, worker: WorkerTree) -> None:
    """Stall a worker, but not in the moment in which it has SQLite's one lock for writing: everybody would stall."""
    worker.suspend()
    url: str = scene.settings["url"]
    while url.startswith("sqlite:") and is_locked(url.removeprefix("sqlite:///")):
        worker.resume()
        await asyncio.sleep(LEASE_SECONDS / 100)
        worker.suspend()


def is_locked(file: str) -> bool:
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            return True
        connection.execute("ROLLBACK")
        return False
