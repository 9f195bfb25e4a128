"""The jobs API of a real server with two API workers; the test is the worker for jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.jobs.job import JobError, JobPage, Lease
from serving.jobs.store import JobStore, open_store
from serving.settings.jobs import JobsSettings
from tests.server import Server, serving

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}
RESULT = b'{"prediction":[[0.1,0.2,0.7]]}'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs") / "jobs.db"


@pytest.fixture(scope="module")
def api(model_store: Path, file: Path) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    """A server without a worker for jobs."""
    settings = {"SERVING__JOBS__URL": f"sqlite:///{file}", "SERVING__MODELS__INCEPTION_V3__ENABLED": "false"}
    with serving(SERVING__SERVER__WORKERS="2", **settings) as running:
        yield running


@pytest.fixture
def client(api: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=30) as client:
        yield client


Do = Callable[[Callable[[JobStore], Any]], Any]


@pytest.fixture
def do(file: Path) -> Do:
    """Does one thing with the server's store, from this process."""

    def run(step: Callable[[JobStore], Any]) -> Any:
        async def opened() -> Any:
            store = open_store(JobsSettings(url=f"sqlite:///{file}"))
            await store.open()
            try:
                return await step(store)
            finally:
                await store.close()

        return asyncio.run(opened())

    return run


async def _drain_queue(store: JobStore) -> None:
    while claims := await store.claim("iris", "test", limit=100):
        for claim in claims:
            await store.fail(claim.lease, JobError("internal_error", "not wanted"), retryable=False)


@pytest.fixture(autouse=True)
def _empty(do: Do) -> Iterator[None]:
    yield
    do(_drain_queue)


def _claim(do: Do) -> Lease:
    async def claim(store: JobStore) -> Lease:
        (found,) = await store.claim("iris", "test", limit=1)
        return found.lease

    lease: Lease = do(claim)
    return lease


def _fresh_post(api: Server, key: str, rows: Any = ROW) -> httpx.Response:
    """With a connection of its own: which API worker takes it is anybody's guess."""
    return httpx.post(f"{api.url}/iris/jobs", json=rows, headers={"Idempotency-Key": key}, timeout=30)


def test_many_requests_with_one_key_make_one_job(api: Server, do: Do) -> None:
    with ThreadPoolExecutor(16) as threads:
        for key in ("one", "two", "three"):
            answers = list(threads.map(lambda _, key=key: _fresh_post(api, key), range(32)))
            assert {answer.status_code for answer in answers} == {202}
            assert len({answer.json()["job_id"] for answer in answers}) == 1

    async def stored(store: JobStore) -> JobPage:
        return await store.page(limit=200)

    assert len(do(stored).jobs) == 3


def test_of_different_requests_with_one_key_one_wins(api: Server) -> None:
    bodies = [{"data": [[float(number), 3.5, 1.4, 0.2]]} for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda body: _fresh_post(api, "contested", body), bodies))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 15


def test_any_worker_answers_for_any_job(api: Server) -> None:
    job_id = _fresh_post(api, "anywhere").json()["job_id"]
    assert len(api.workers("model_serving")) == 2
    for _ in range(20):
        assert httpx.get(f"{api.url}/jobs/{job_id}", timeout=60).json()["status"] == "queued"


def test_a_wait_ends_when_another_process_finishes_the_job(api: Server, client: httpx.Client, do: Do) -> None:
    job_id = client.post("/iris/jobs", json=ROW).json()["job_id"]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(httpx.get, f"{api.url}/jobs/{job_id}?wait=25", timeout=40)
        lease = _claim(do)
        assert lease.job_id == job_id
        assert not waiting.done()
        assert do(lambda store: store.succeed(lease, RESULT))
        answer = waiting.result()
    assert answer.json()["status"] == "succeeded"
    assert b'"result":' + RESULT in answer.content
    assert time.monotonic() - began < 20


def test_those_who_wait_hold_up_nobody(api: Server, client: httpx.Client) -> None:
    """More of them than the process has threads."""
    job_id = client.post("/iris/jobs", json=ROW).json()["job_id"]

    async def crowd() -> tuple[list[int], float]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=limits) as many:
            waits = [asyncio.create_task(many.get(f"/jobs/{job_id}?wait=29")) for _ in range(100)]
            in_progress = 'bentoml_service_request_in_progress{endpoint="/jobs/{job_id}"'
            async with asyncio.timeout(25):
                while True:
                    lines = (await many.get("/metrics")).text.splitlines()
                    if sum(float(line.split()[-1]) for line in lines if line.startswith(in_progress)) == len(waits):
                        break
            started = time.monotonic()
            for _ in range(20):
                (await many.post("/iris/predict", json=ROW)).raise_for_status()
                (await many.get(f"/jobs/{job_id}")).raise_for_status()
            took = time.monotonic() - started
            assert not any(wait.done() for wait in waits)
            (await many.delete(f"/jobs/{job_id}")).raise_for_status()
            answers = await asyncio.gather(*waits)
        assert {answer.json()["status"] for answer in answers} == {"cancelled"}
        return [answer.status_code for answer in answers], took

    statuses, took = asyncio.run(crowd())
    assert set(statuses) == {200}
    assert took < 25


def test_every_accepted_job_outlives_its_api_worker(api: Server, do: Do) -> None:
    """Workers are killed while jobs are being accepted. Whatever got a 202 is in the store."""
    accepted: list[str] = []
    outcomes: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        # The connection stays with one worker, so that whoever kills both cuts it while it is busy.
        with httpx.Client(base_url=api.url, timeout=30) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/iris/jobs", json=ROW)
                except httpx.TransportError as error:
                    outcomes.append(type(error).__name__)
                    continue
                outcomes.append(str(answer.status_code))
                if answer.status_code == 202:
                    accepted.append(answer.json()["job_id"])

    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, outcomes[-20:]
            time.sleep(0.01)

    def replaced(gone: int) -> bool:
        workers = [worker.pid for worker in api.workers("model_serving")]
        return gone not in workers and len(workers) == 2

    with ThreadPoolExecutor(8) as threads:
        submitters = [threads.submit(submit) for _ in range(8)]
        try:
            for worker in api.workers("model_serving"):
                goal = len(accepted) + 50
                wait_for(lambda goal=goal: len(accepted) >= goal)
                worker.kill()
                wait_for(lambda gone=worker.pid: replaced(gone))
        finally:
            stop.set()
        for submitter in submitters:
            submitter.result()
    assert set(outcomes) > {"202"}, "no request met a kill: the test shows nothing"

    async def missing(store: JobStore) -> list[str]:
        found: set[str] = set()
        after = None
        while True:
            page = await store.page(limit=200, after=after)
            found |= {job.id for job in page.jobs}
            if (after := page.next) is None:
                return sorted(set(accepted) - found)

    assert len(accepted) == len(set(accepted)) >= 100
    assert do(missing) == []
