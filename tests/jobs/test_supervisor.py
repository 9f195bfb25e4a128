"""Worker processes that crash, hang and are stopped, under a real supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs.job import Job, Status
from serving.jobs.journal import JournalReader
from serving.jobs.process import EXIT_CONFIGURATION
from serving.jobs.store import JobStore, open_store
from serving.jobs.supervisor import Supervisor, open_models
from serving.settings import Settings
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import LONG_SECONDS, MODEL, until
from tests.jobs.misbehaving import OPEN_WORK, order, starts
from tests.server import ROOT, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Leases are long: what is quick here is quick without them."""
    return with_jobs(url=f"sqlite:///{tmp_path / 'jobs.db'}", lease_seconds=60.0, backoff_seconds=[0.05])


def with_jobs(**jobs: Any) -> Settings:
    return Settings(jobs=JobsSettings(**jobs))


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[JobStore]:
    store = open_store(settings.jobs)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "starts"


class Running:
    """A supervisor in this process, and its worker in another."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.task = asyncio.create_task(supervisor.run())

    async def stop(self) -> int:
        self.supervisor.stop()
        return await asyncio.wait_for(self.task, LONG_SECONDS)


Supervise = Callable[..., Awaitable[Running]]


@pytest.fixture
async def supervise(settings: Settings) -> AsyncIterator[Supervise]:
    async with AsyncExitStack() as stack:

        async def start(changed: Settings | None = None, **options: Any) -> Running:
            options = {"models": {MODEL: None}, "work": OPEN_WORK} | options
            running = Running(Supervisor(changed or settings, **options))

            async def end() -> None:
                running.task.cancel()
                with suppress(asyncio.CancelledError):
                    await running.task

            stack.push_async_callback(end)
            return running

        yield start


async def submit(store: JobStore, do: str, **changes: Any) -> Job:
    return (await store.submit(order(do, **changes))).job


async def finished(store: JobStore, job: Job) -> Job:
    return await store.wait(job.id, LONG_SECONDS)


async def test_the_jobs_of_a_killed_worker_are_done_by_the_next(
    supervise: Supervise, settings: Settings, store: JobStore, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, long before their leases run out; also when the store is away while the worker dies."""
    outages = iter([UnavailableError("away", retry_after=1)] * 3)

    class Away:
        """The store as the supervisor sees it: away at first."""

        def __init__(self) -> None:
            self._store = open_store(settings.jobs)
            self.close = self._store.close
            self.release = self._store.release

        async def abandon(self, owner: str) -> int:
            for outage in outages:
                raise outage
            return await self._store.abandon(owner)

    journals: list[JournalReader] = []

    class Journal(JournalReader):
        def __init__(self, owner: str) -> None:
            super().__init__(owner)
            journals.append(self)

    monkeypatch.setattr("serving.jobs.supervisor.JournalReader", Journal)
    running = await supervise(make_store=Away)
    job = await submit(store, "sleep:3", log=log)
    behind = await submit(store, "echo", log=log, max_retries=0)
    await until(lambda: _is(bool(starts(log))))
    await until(lambda: _is([lease.job_id for lease in journals[0].waiting] == [behind.id]))
    assert running.supervisor.pid is not None
    os.kill(running.supervisor.pid, signal.SIGKILL)
    done = await finished(store, job)
    assert (done.status, done.attempts, done.result) == (Status.SUCCEEDED, 2, b'{"done":"sleep"}')
    assert next(outages, None) is None
    other = await finished(store, behind)
    assert (other.status, other.attempts) == (Status.SUCCEEDED, 1), "it had not begun"
    assert sorted(starts(log)) == ["echo", "sleep:3", "sleep:3"]
    assert await running.stop() == 0


async def _is(condition: bool) -> bool:
    return condition


async def test_a_job_that_kills_its_worker_ends_as_failed_and_takes_nobody_along(
    supervise: Supervise, store: JobStore, log: Path
) -> None:
    """Jobs of a model that takes many at once: those that were in the same batch are done all the same."""
    poison = await submit(store, "die", log=log, max_retries=2)
    good = [await submit(store, f"sleep:{number / 1000}", max_retries=1) for number in range(5)]
    await supervise(work="tests.jobs.misbehaving:open_batching_work")
    ends = [await finished(store, job) for job in good]
    assert [(job.status, job.attempts) for job in ends] == [(Status.SUCCEEDED, 2)] * 5
    failed = await finished(store, poison)
    assert (failed.status, failed.attempts) == (Status.FAILED, 3)
    assert failed.error is not None
    assert failed.error.code == "worker_died"
    assert starts(log) == ["die"] * 3


@pytest.mark.parametrize("do", ["hang", "hog"])
async def test_an_attempt_that_takes_too_long_ends_its_worker(
    supervise: Supervise, settings: Settings, store: JobStore, do: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also one that never gives back the interpreter's lock, so that no thread of the worker can see the time."""
    hanging = await submit(store, do, max_retries=0)
    # Without the lock the worker may not get to say that it has not begun this one, which then uses an attempt.
    after = await submit(store, "echo", max_retries=1 if do == "hog" else 0)
    limited = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"job_timeout_seconds": 1.0})})
    await supervise(limited)
    failed, done = await finished(store, hanging), await finished(store, after)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.code == "worker_died"
    assert done.status is Status.SUCCEEDED
    if do == "hang":
        assert f"jobs {hanging.id}: the attempt took longer than 1 s" in capfd.readouterr().out


async def test_a_stop_finishes_what_runs(supervise: Supervise, store: JobStore, log: Path) -> None:
    running = await supervise()
    first, second, third = [await submit(store, "sleep:2", log=log) for _ in range(3)]
    await until(lambda: _is(bool(starts(log))))
    assert await running.stop() == 0
    done, *waiting = [await store.get(job.id) for job in (first, second, third)]
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)
    assert [(job.status, job.attempts) for job in waiting] == [(Status.QUEUED, 0)] * 2
    assert running.supervisor.pid is None


async def test_a_second_stop_gives_back_what_runs(supervise: Supervise, store: JobStore, log: Path) -> None:
    running = await supervise()
    job = await submit(store, "hang", log=log)
    await until(lambda: _is(bool(starts(log))))
    running.supervisor.stop()
    assert await running.stop() == 0
    given_back = await store.get(job.id)
    assert (given_back.status, given_back.attempts) == (Status.QUEUED, 0)


async def test_signals_to_the_worker_itself_are_one_wish_to_drain(
    supervise: Supervise, store: JobStore, log: Path
) -> None:
    """As BentoML sends them to the children of its processes. Nobody told the supervisor: there is another worker."""
    running = await supervise()
    job = await submit(store, "sleep:0.7", log=log)
    await until(lambda: _is(bool(starts(log))))
    worker = running.supervisor.pid
    assert worker is not None
    for _ in range(3):
        os.kill(worker, signal.SIGTERM)
        await asyncio.sleep(0.05)
    done = await finished(store, job)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)
    assert (await finished(store, await submit(store, "echo"))).status is Status.SUCCEEDED
    assert running.supervisor.pid not in (None, worker)


async def test_workers_that_die_without_having_done_anything_come_at_growing_intervals(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def wait_for(_: asyncio.Event, seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    monkeypatch.setattr("serving.jobs.supervisor.wait_for", wait_for)
    monkeypatch.setattr("serving.jobs.supervisor._START", "raise SystemExit(1)")
    running = await supervise()
    assert await asyncio.wait_for(running.task, LONG_SECONDS) == 0
    assert 0 < pauses[0] <= 0.25 < pauses[2] <= 1.0


async def test_a_worker_that_cannot_start_as_configured_is_not_started_again(
    supervise: Supervise, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    first = await supervise(port=port)
    async with httpx.AsyncClient() as client:
        await until(lambda: _ready(client, port))
        second = await supervise(port=port)
        assert await asyncio.wait_for(second.task, LONG_SECONDS) == EXIT_CONFIGURATION
        assert "jobs.worker_port" in capfd.readouterr().out
        assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        assert f'serving_job_attempts_total{{model="{MODEL}",outcome="succeeded"}} 0.0' in text
    assert await first.stop() == 0


async def _ready(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


COMMAND = """
import sys
from serving.jobs.supervisor import supervise
sys.exit(supervise(models=["iris"], concurrency=1, port=int(sys.argv[1])))
"""


@pytest.fixture
def command(model_store: Path, settings: Settings) -> Any:  # noqa: ARG001 - it has to be filled
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(port)],
        cwd=ROOT,
        env=os.environ | {"SERVING__JOBS__URL": settings.jobs.url},
    )
    yield process, port
    process.kill()
    process.wait()


async def test_the_command_serves_until_it_is_told_to_stop(command: Any) -> None:
    process, port = command
    async with httpx.AsyncClient() as client:
        await until(lambda: _ready(client, port))
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, LONG_SECONDS) == 0


async def test_a_killed_supervisor_leaves_no_worker_behind(command: Any) -> None:
    process, port = command
    async with httpx.AsyncClient() as client:
        await until(lambda: _ready(client, port))
    (worker,) = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    await until(lambda: _is(not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE))


LIGHT = """
import io, sys
import serving.jobs.process
print([name for name in ("bentoml", "_bentoml_sdk", "fastapi", "openvino", "tensorflow") if name in sys.modules])
"""


def test_the_worker_process_imports_no_framework() -> None:
    """So that another one is there soon after a death."""
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_secrets_are_not_on_the_command_line(
    supervise: Supervise, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.jobs.supervisor._START", "import time; time.sleep(600)")
    running = await supervise()
    await until(lambda: _is(running.supervisor.pid is not None))
    process = psutil.Process(running.supervisor.pid)
    assert "600" in " ".join(process.cmdline())
    assert not [text for text in (*process.cmdline(), *process.environ().values()) if settings.jobs.url in text]


def test_models_are_chosen_by_name(model_store: Path) -> None:  # noqa: ARG001
    assert set(open_models(Settings())) == {"iris", "inception_v3"}
    assert set(open_models(Settings(), ["iris"])) == {"iris"}
    with pytest.raises(ConfigurationError, match="oracle: choose from iris, inception_v3"):
        open_models(Settings(), ["oracle"])
