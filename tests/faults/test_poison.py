"""Jobs that end their worker themselves, each time they run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.jobs.job import Status
from tests.faults.scene import Scene
from tests.faults.works import Order

pytestmark = pytest.mark.anyio
MAX_RETRIES = 2
BATCH = 4
# Another process and its imports; three seconds on a machine that does nothing else.
BEHIND_SECONDS = 60.0


@pytest.fixture
async def patient_scene(tmp_path: Path, store_url: str) -> AsyncIterator[Scene]:
    """The first pause is that of the settings: time for the jobs behind, before the poison is given out again."""
    async with Scene(tmp_path, store_url, backoff_seconds=[2.0, 0.2]) as scene:
        yield scene


async def test_a_job_that_kills_its_worker_ends_as_failed_and_takes_nobody_with_it(patient_scene: Scene) -> None:
    scene = patient_scene
    poison = await scene.submit(Order(kill=True), max_retries=MAX_RETRIES)
    neighbours = [await scene.submit(Order(), max_retries=1) for _ in range(BATCH - 1)]
    worker = await scene.start_ready_worker(batch=BATCH)
    await scene.until_started(poison)
    died_at = scene.lines("start", poison)[0].at
    behind = [await scene.submit(Order(), max_retries=0) for _ in range(6)]
    jobs = await scene.finished([*behind, *neighbours, poison])

    done_at = max(jobs[job_id].finished_at or 0.0 for job_id in behind)
    assert scene.measure("poison: jobs behind done", done_at - died_at) <= BEHIND_SECONDS
    done_at = max(jobs[job_id].finished_at or 0.0 for job_id in neighbours)
    scene.measure("poison: jobs of the same batch done", done_at - died_at)

    starts = scene.lines("start", poison)
    assert [line.attempt for line in starts] == list(range(1, MAX_RETRIES + 2))
    assert [line.batch for line in starts] == [BATCH, *[1] * MAX_RETRIES], "it was run with others again"
    failed = jobs.pop(poison)
    assert (failed.status, failed.attempts) == (Status.FAILED, MAX_RETRIES + 1)
    assert failed.error is not None
    assert failed.error.code == "worker_died"
    for job_id in neighbours:
        assert [(line.attempt, line.batch) for line in scene.lines("start", job_id)] == [(1, BATCH), (2, 1)]
    assert worker.terminate() == 0
    await scene.check_once(jobs)


@pytest.fixture
async def hasty_scene(tmp_path: Path, store_url: str) -> AsyncIterator[Scene]:
    async with Scene(tmp_path, store_url, job_timeout_seconds=1.0) as scene:
        yield scene


async def test_a_job_that_hangs_is_ended_with_its_worker(hasty_scene: Scene) -> None:
    scene = hasty_scene
    hanging = await scene.submit(Order(hang=True), max_retries=1)
    worker = scene.start_worker()
    await scene.until_started(hanging)
    good = await scene.submit(Order())
    jobs = await scene.finished([hanging, good])

    starts = scene.lines("start", hanging)
    assert [line.attempt for line in starts] == [1, 2]
    assert starts[0].pid != starts[1].pid, "the worker process was not replaced"
    failed = jobs.pop(hanging)
    assert (failed.status, failed.attempts) == (Status.FAILED, 2)
    assert failed.error is not None
    assert failed.error.code == "worker_died"
    assert failed.finished_at is not None
    assert scene.measure("hang: ended after", failed.finished_at - starts[1].at) >= 0.5
    assert worker.terminate() == 0
    await scene.check_once(jobs)
