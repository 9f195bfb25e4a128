"""Workers that are killed with what they run: as when memory runs out, or a host dies."""

from __future__ import annotations

import time

import pytest

from serving.jobs.job import Status
from tests.faults.scene import JOB_SECONDS, RERUN_SECONDS, Scene
from tests.faults.works import Order

pytestmark = pytest.mark.anyio
JOBS = 20


async def test_the_jobs_of_a_killed_worker_are_done_by_the_next(scene: Scene) -> None:
    job_ids = [await scene.submit(Order(seconds=JOB_SECONDS)) for _ in range(JOBS)]
    first = scene.start_worker(concurrency=3)
    await scene.until(lambda: len(scene.lines("start")) >= 3, "three jobs run")
    first.kill()
    killed_at = time.time()
    victims = await scene.with_status(Status.RUNNING)
    assert len(victims) >= 3
    await scene.start_ready_worker(concurrency=3)
    # What comes first takes as long as the machine needs for a new process; the rest is the lease's.
    since = max(killed_at, scene.lines("open")[-1].at)
    jobs = await scene.finished(job_ids)

    # Jobs whose worker died are run again one at a time, so each waits for the one before too.
    again = sorted(job.started_at or 0.0 for job_id, job in jobs.items() if job_id in victims)
    scene.measure("20 jobs: first run again", again[0] - killed_at)
    scene.measure("20 jobs: last run again", again[-1] - killed_at)
    assert again[0] > killed_at
    for place, started_at in enumerate(again):
        assert started_at - since <= RERUN_SECONDS + 3 * place * JOB_SECONDS
    assert all(jobs[job_id].attempts >= 2 for job_id in victims)
    assert scene.workers[-1].terminate() == 0
    await scene.check_once(jobs)


async def test_a_single_job_is_taken_over_by_an_idle_worker(scene: Scene) -> None:
    """Nobody asks the store for anything: only the end of the lease can wake the other worker."""
    await scene.start_ready_workers(2)
    job_id = await scene.submit(Order(gate="done"))
    await scene.until_started(job_id)
    pid = scene.lines("start")[0].pid
    (busy,) = [tree for tree in scene.workers if (worker := tree.worker()) is not None and worker.pid == pid]
    (idle,) = [tree for tree in scene.workers if tree is not busy]
    busy.kill()
    killed_at = time.time()
    await scene.until_started(job_id, attempt=2)
    scene.open_gate("done")
    jobs = await scene.finished([job_id])
    started_at = jobs[job_id].started_at
    assert started_at is not None
    assert scene.measure("idle: run again", started_at - killed_at) <= RERUN_SECONDS
    assert jobs[job_id].attempts == 2
    assert idle.terminate() == 0
    await scene.check_once(jobs)
