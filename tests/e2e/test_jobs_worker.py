"""`bentoml serve` with its own worker: jobs are done, whoever is killed, and a stop loses none."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.jobs.job import Job, Status
from serving.jobs.store import JobStore, open_store
from serving.settings.jobs import JobsSettings
from tests.e2e.test_observability import eventually, total
from tests.server import Server, serving

ROWS = {"data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}
LONG_SECONDS = 60

pytestmark = pytest.mark.usefixtures("model_store")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


def ask(url: str, question: Callable[[JobStore], Any]) -> Any:
    """What the store answers, asked past the API."""

    async def run() -> Any:
        store = open_store(JobsSettings(url=url))
        await store.open()
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(run())


def end_of(url: str, job_id: str) -> Job:
    return ask(url, lambda store: store.wait(job_id, LONG_SECONDS))


def worker_of(server: Server) -> psutil.Process:
    """The process that runs the jobs."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = [child for process in server.workers("job_worker") for child in process.children()]
        return len(found) == 1

    assert eventually(look)
    return found[0]


def submit(client: httpx.Client, path: str, **body: Any) -> str:
    response = client.post(path, **body)
    assert response.status_code == 202, response.text
    return response.json()["job_id"]


def test_jobs_are_done_beside_the_api(url: str, photo: bytes) -> None:
    """The results are those of `/predict`, byte for byte; killed workers are replaced; a stop gives back the rest."""
    with (
        serving(SERVING__JOBS__URL=url, SERVING__JOBS__EMBEDDED_WORKER="true") as server,
        httpx.Client(base_url=server.url, timeout=LONG_SECONDS) as client,
    ):
        image = {"content": photo, "headers": {"Content-Type": "image/jpeg"}}
        for path, body in (("/iris", {"json": ROWS}), ("/inception_v3", image)):
            done = end_of(url, submit(client, f"{path}/jobs", **body))
            assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)
            assert done.result == client.post(f"{path}/predict", **body).content
        assert eventually(lambda: total(server, "serving_jobs_finished_total", model="iris", status="succeeded") == 1)
        assert eventually(lambda: total(server, "serving_jobs", model="iris", status="succeeded") == 1)

        # The worker, and then the process that watches it.
        for finished, victim in enumerate((worker_of(server), *server.workers("job_worker")), start=2):
            worker = worker_of(server)
            os.kill(victim.pid, signal.SIGKILL)
            assert end_of(url, submit(client, "/iris/jobs", json=ROWS)).status is Status.SUCCEEDED
            assert eventually(lambda worker=worker: not worker.is_running())
            # A worker counts a job when the store has its result. One that is killed in between does not count it.
            count = ("serving_jobs_finished_total", finished)
            assert eventually(lambda c=count: total(server, c[0], model="iris", status="succeeded") == c[1])

        jobs = [submit(client, "/inception_v3/jobs", **image) for _ in range(24)]
        assert end_of(url, jobs[0]).status is Status.SUCCEEDED
        assert server.stop() == 0
        ends = [ask(url, lambda store, job=job: store.get(job)) for job in jobs]
        # Some were running, some claimed ahead, some waiting: finished, given back, as before.
        assert {(job.status, job.attempts) for job in ends} == {(Status.SUCCEEDED, 1), (Status.QUEUED, 0)}
        before, traceback, rest = server.log().partition("Traceback")
        assert not traceback, before[-500:] + traceback + rest[:3000]
