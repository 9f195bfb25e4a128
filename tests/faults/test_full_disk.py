"""A disk without room, as far as the processes in question can see: their files may not grow."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from serving.jobs.job import Status
from tests.faults.scene import LONG_SECONDS, Scene
from tests.faults.works import Order
from tests.server import ROOT

pytestmark = pytest.mark.anyio
# More than the tests' own lines and logs need, less than the file of the store has.
LIMIT_BYTES = 32 * 1024

SUBMIT = """
import asyncio, resource, sys
from serving.core.errors import UnavailableError
from serving.jobs.store import open_store
from serving.jobs.job import NewJob, new_job_id
from serving.settings.jobs import JobsSettings

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def submit(store, payload):
    try:
        job = await store.submit(NewJob(new_job_id(), sys.argv[2], payload, "{}", 0, 3600.0))
    except UnavailableError:
        return "refused"
    return job.job.id

async def main():
    store = open_store(JobsSettings(url=sys.argv[1]))
    await store.open()
    print(await submit(store, b"{}"))
    limit(int(sys.argv[3]))
    for size in (100_000, 0, 100_000, 0):
        print(await submit(store, b"{" + b" " * size + b"}"))
    limit(resource.RLIM_INFINITY)
    print(await submit(store, b"{}"))
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


def check_file(scene: Scene) -> None:
    with closing(sqlite3.connect(scene.directory / "jobs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_what_is_accepted_on_a_full_disk_is_there_and_the_rest_is_refused(scene: Scene, store_url: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SUBMIT, store_url, "faulty", str(LIMIT_BYTES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split()
    assert len(answers) == 6
    assert (answers[1], answers[3]) == ("refused", "refused")
    assert "refused" not in (answers[0], answers[-1])
    accepted = {answer for answer in answers if answer != "refused"}
    assert {job.id for job in (await scene.store.page()).jobs} == accepted
    check_file(scene)
    worker = scene.start_worker(batch=4)
    jobs = await scene.finished(accepted)
    assert worker.terminate() == 0
    await scene.check_once(jobs)


async def test_a_worker_records_its_result_once_there_is_room(tmp_path: Path, store_url: str) -> None:
    async with Scene(tmp_path, store_url, lease_seconds=4 * LONG_SECONDS) as scene:
        worker = await scene.start_ready_worker()
        job_id = await scene.submit(Order(gate="full", answer_bytes=300_000), max_retries=0)
        await scene.until_started(job_id)
        process = worker.worker()
        assert process is not None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))
        scene.open_gate("full")
        await scene.until(lambda: "the store cannot be told" in worker.log.read_text(), "the result was turned away")
        assert (await scene.store.get(job_id)).status is Status.RUNNING
        check_file(scene)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        another = await scene.submit(Order(), max_retries=0)
        jobs = await scene.finished([job_id, another])
        assert worker.worker() == process
        assert worker.terminate() == 0
        assert {job.attempts for job in jobs.values()} == {1}
        await scene.check_once(jobs)
        check_file(scene)
