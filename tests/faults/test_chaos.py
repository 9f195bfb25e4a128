"""Random kills of random workers."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from serving.jobs.job import Job
from tests.faults.scene import Scene
from tests.faults.works import Order

pytestmark = pytest.mark.anyio
JOBS = 40
JOB_SECONDS = 0.3
WORKERS = 3
KILLS = 8
SEEDS = {"sqlite": [11], "redis": [12]}
ALL_SEEDS = [11, 12, 13]
ROUNDS = [
    pytest.param(store, seed, id=f"{store}-{seed}")
    for store, seeds in SEEDS.items()
    for seed in (ALL_SEEDS if os.environ.get("FAULTS_ALL_SEEDS") else seeds)
]


@pytest.mark.parametrize(("store_url", "seed"), ROUNDS, indirect=["store_url"])
async def test_every_job_is_done_once_whoever_dies(scene: Scene, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    # One ends only after its worker has died, so that at least one kill hits a job.
    victim = await scene.submit(Order(seconds=JOB_SECONDS, gate="never", gated_attempts=1))
    job_ids = [victim, *[await scene.submit(Order(seconds=JOB_SECONDS)) for _ in range(JOBS - 1)]]
    for _ in range(WORKERS):
        scene.start_worker()
    finished: dict[str, Job] = {}
    watching = asyncio.create_task(watch(scene, finished))
    started = 0
    for _ in range(KILLS):
        await scene.until(lambda before=started: len(scene.lines("start")) > before, "there is a run to disturb")
        started = len(scene.lines("start"))
        await asyncio.sleep(dice.uniform(0, JOB_SECONDS))
        await kill_one(scene, dice)
    assert len(finished) < JOBS, "everything was done before the last kill"
    await kill_worker_of(scene, victim)
    jobs = await scene.finished(job_ids)
    for worker in scene.workers:
        if worker.alive:
            assert worker.terminate() == 0
    await watching
    assert {job_id: (job.attempts, job.finished_at) for job_id, job in finished.items()} == {
        job_id: (job.attempts, job.finished_at) for job_id, job in jobs.items()
    }
    await scene.check_once(jobs)
    again = sum(job.attempts > 1 for job in jobs.values())
    print(f"seed {seed}: {again} of {JOBS} jobs were run again")
    assert again >= 1, "no kill hit a job"


async def kill_one(scene: Scene, dice: random.Random) -> None:
    """The worker process alone, or all of a tree, which is then started anew."""
    alive = [worker for worker in scene.workers if worker.alive]
    await scene.until(lambda: any(worker.worker() for worker in alive), "there is a worker process")
    victim = dice.choice([worker for worker in alive if worker.worker()])
    if dice.random() < 0.5:
        victim.kill_worker()
        return
    victim.kill()
    scene.start_worker()


async def kill_worker_of(scene: Scene, job_id: str) -> None:
    """The process that has begun the first attempt, unless it is dead."""
    await scene.until_started(job_id)
    pid = scene.lines("start", job_id)[0].pid
    for worker in scene.workers:
        process = worker.worker() if worker.alive else None
        if process is not None and process.pid == pid:
            worker.kill_worker()


async def watch(scene: Scene, finished: dict[str, Job]) -> None:
    """Note how every job is when it is first seen as finished, until all are."""
    while len(finished) < JOBS:
        for job in (await scene.store.page(limit=JOBS)).jobs:
            if job.status.finished:
                finished.setdefault(job.id, job)
        await asyncio.sleep(0.05)
