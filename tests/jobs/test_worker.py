"""The worker in this process: batches, failures, leases, outages and the drain, on a real store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from serving.core.errors import InvalidInputError, UnavailableError
from serving.jobs.job import Claimed, Job, Status
from serving.jobs.metrics import JobMetrics
from serving.jobs.store import JobStore, open_store
from serving.jobs.watchdog import Watchdog
from serving.jobs.work import Answer, Prepared
from serving.jobs.worker import Worker, drain_limit
from serving.settings import Settings
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import LONG_SECONDS, MODEL, claim_one, new_job, until

pytestmark = pytest.mark.anyio


class HeldWork:
    """Echoes payloads, one call at a time and only when `release` is called; what it does wrong is in the payload."""

    def __init__(self, max_batch_rows: int = 4, *, held: bool = False) -> None:
        self.max_batch_rows = max_batch_rows
        self.decode_threads = 4
        self.held = held
        self.opened = 0
        self.prepared: list[str] = []
        self.calls: list[list[str]] = []
        self.running = 0
        self._go = threading.Semaphore(0)

    def open(self) -> None:
        self.opened += 1

    def prepare(self, claimed: Claimed) -> Prepared:
        name, _, rows = claimed.payload.decode().partition("*")
        self.prepared.append(name)
        if name == "spoilt":
            raise InvalidInputError("spoilt payload")
        if name == "crashing":
            raise ZeroDivisionError("secret of the decoder")
        return Prepared(name, {}, int(rows or 1))

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        names = [prepared.request for prepared in batch]
        self.calls.append(names)
        self.running += 1
        try:
            if self.held:
                assert self._go.acquire(timeout=LONG_SECONDS)
        finally:
            self.running -= 1
        if "broken" in names:
            raise RuntimeError("secret of the engine")
        return [InvalidInputError("refused") if name == "refused" else msgspec.json.encode(name) for name in names]

    def release(self, calls: int = 1) -> None:
        self._go.release(calls)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        jobs=JobsSettings(url=f"sqlite:///{tmp_path / 'jobs.db'}", lease_seconds=60.0, backoff_seconds=[0.05])
    )


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[JobStore]:
    store = open_store(settings.jobs)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


Start = Callable[..., Awaitable[tuple[Worker, "asyncio.Task[bool]"]]]


@pytest.fixture
async def start(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[Start]:
    """Runs a worker until it has drained or the test is over."""
    async with AsyncExitStack() as stack:

        async def begin(
            *works: HeldWork, settings: Settings = settings, **options: Any
        ) -> tuple[Worker, asyncio.Task[bool]]:
            watchdog = options.pop("watchdog", None) or Watchdog(60, backstop=False)
            watchdog.start()
            options = {
                "owner": "worker",
                "works": {MODEL if not number else f"{MODEL}{number}": work for number, work in enumerate(works)},
                "settings": settings,
                "make_store": partial(open_store, settings.jobs),
                "metrics": JobMetrics(duration_buckets=[1.0], registry=registry),
                "watchdog": watchdog,
            } | options
            worker = Worker(**options)
            task = asyncio.create_task(worker.run())

            async def end() -> None:
                for work in works:
                    work.release(1000)
                worker.hurry()
                await task
                watchdog.stop()

            stack.push_async_callback(end)
            return worker, task

        yield begin


async def submit(store: JobStore, *payloads: str, **changes: Any) -> list[Job]:
    return [(await store.submit(new_job(payload=payload.encode(), **changes))).job for payload in payloads]


async def finished(store: JobStore, jobs: Sequence[Job]) -> list[Job]:
    return [await store.wait(job.id, LONG_SECONDS) for job in jobs]


def statuses(jobs: Sequence[Job]) -> list[Status]:
    return [job.status for job in jobs]


async def sure(condition: Callable[[], bool]) -> None:
    async def ask() -> bool:
        return condition()

    await until(ask)


# --- batches ---


async def test_what_waits_goes_in_one_call_in_order(store: JobStore, start: Start) -> None:
    jobs = await submit(store, *"abcdef")
    work = HeldWork(max_batch_rows=4)
    await start(work)
    done = await finished(store, jobs)
    assert work.calls == [list("abcd"), list("ef")]
    assert [(job.status, job.result, job.attempts) for job in done] == [
        (Status.SUCCEEDED, f'"{name}"'.encode(), 1) for name in "abcdef"
    ]
    assert work.opened == 1


async def test_a_batch_is_bounded_by_rows_and_a_larger_job_goes_alone(store: JobStore, start: Start) -> None:
    jobs = await submit(store, "a*3", "b*2", "c*2", "d*9", "e*1")
    work = HeldWork(max_batch_rows=4)
    await start(work)
    await finished(store, jobs)
    assert work.calls[:3] == [["a"], ["b", "c"], ["d"]]


async def test_one_batch_is_decoded_ahead_and_no_more(store: JobStore, start: Start) -> None:
    work = HeldWork(max_batch_rows=2, held=True)
    jobs = await submit(store, *"abcdef")
    await start(work)
    await sure(lambda: len(work.prepared) == 4 and work.running == 1)
    assert (await store.stats())[MODEL].counts[Status.QUEUED] == 2
    work.release()
    await sure(lambda: len(work.calls) == 2)
    assert work.calls[1] == ["c", "d"]
    await sure(lambda: len(work.prepared) == 6)
    work.release(2)
    assert statuses(await finished(store, jobs)) == [Status.SUCCEEDED] * 6


async def test_what_arrives_while_the_engine_is_busy_joins_the_next_batch(store: JobStore, start: Start) -> None:
    work = HeldWork(max_batch_rows=4, held=True)
    jobs = await submit(store, "a")
    await start(work)
    await sure(lambda: work.running == 1)
    for name in "bcd":
        jobs += await submit(store, name)
        await sure(lambda name=name: name in work.prepared)  # type: ignore[misc]
    work.release(2)
    await finished(store, jobs)
    assert work.calls == [["a"], ["b", "c", "d"]]


async def test_concurrency_is_that_many_calls_at_a_time(store: JobStore, start: Start) -> None:
    work = HeldWork(max_batch_rows=1, held=True)
    jobs = await submit(store, *"abc")
    await start(work, concurrency=2)
    await sure(lambda: work.running == 2)
    await sure(lambda: len(work.prepared) == 3)
    assert len(work.calls) == 2
    work.release(3)
    assert statuses(await finished(store, jobs)) == [Status.SUCCEEDED] * 3


async def test_models_do_not_wait_for_each_other(store: JobStore, start: Start) -> None:
    held, free = HeldWork(held=True), HeldWork()
    await submit(store, "a")
    other = await submit(store, "b", model=f"{MODEL}1")
    await start(held, free)
    assert statuses(await finished(store, other)) == [Status.SUCCEEDED]


async def test_each_model_decodes_in_as_many_threads_as_its_work_says(store: JobStore, start: Start) -> None:
    """One decodes three at a time, which wait for each other; the other one goes on with its own thread."""
    wide, narrow = HeldWork(max_batch_rows=3), HeldWork()
    wide.decode_threads, narrow.decode_threads = 3, 1
    together = threading.Barrier(4)
    prepare = wide.prepare

    def meet(claimed: Claimed) -> Prepared:
        together.wait(LONG_SECONDS)
        return prepare(claimed)

    wide.prepare = meet  # type: ignore[method-assign]
    jobs = await submit(store, *"abc")
    other = await submit(store, "d", model=f"{MODEL}1")
    await start(wide, narrow)
    assert statuses(await finished(store, other)) == [Status.SUCCEEDED]
    await asyncio.to_thread(together.wait, LONG_SECONDS)
    assert statuses(await finished(store, jobs)) == [Status.SUCCEEDED] * 3


# --- failures ---


async def test_a_bad_input_fails_alone_and_for_good(store: JobStore, start: Start) -> None:
    jobs = await submit(store, "a", "spoilt", "refused", "b")
    await start(HeldWork())
    ends = await finished(store, jobs)
    assert statuses(ends) == [Status.SUCCEEDED, Status.FAILED, Status.FAILED, Status.SUCCEEDED]
    assert [(job.error.code, job.error.message) for job in ends if job.error] == [
        ("invalid_input", "spoilt payload"),
        ("invalid_input", "refused"),
    ]
    assert [job.attempts for job in ends] == [1, 1, 1, 1]


@pytest.mark.parametrize("payload", ["broken", "crashing"])
async def test_what_nobody_expected_is_tried_again_and_tells_nothing_internal(
    store: JobStore, start: Start, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = await submit(store, "a", payload, "b", "c", max_retries=1)
    work = HeldWork()
    await start(work)
    ends = await finished(store, jobs)
    assert statuses(ends) == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED]
    assert [job.attempts for job in ends] == [1, 2, 1, 1]
    error = ends[1].error
    assert error is not None
    assert error.code == "internal_error"
    assert "secret" not in error.message
    records = [record for record in caplog.records if jobs[1].id in record.getMessage()]
    assert len(records) == 2
    assert all(record.exc_info and "secret" in str(record.exc_info[1]) for record in records)


async def test_an_engine_that_cannot_be_loaded_yet_is_tried_again(
    store: JobStore, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = HeldWork()
    faults = iter([MemoryError("not now")])

    def fail_once() -> None:
        for fault in faults:
            raise fault

    monkeypatch.setattr(work, "open", fail_once)
    jobs = await submit(store, "a")
    await start(work, eager=False)
    (done,) = await finished(store, jobs)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)


async def test_a_job_that_has_killed_a_worker_is_run_while_nothing_else_is(store: JobStore, start: Start) -> None:
    (suspect,) = await submit(store, "suspect", model=f"{MODEL}1")
    await claim_one(store, "dead", f"{MODEL}1")
    first = HeldWork(max_batch_rows=1, held=True)
    second = HeldWork(max_batch_rows=4, held=True)
    others = await submit(store, "a", "b")
    await start(first, second)
    await sure(lambda: first.running == 1 and first.prepared == ["a", "b"])
    await store.abandon("dead")
    await _claimed(store, suspect)
    late = await submit(store, "c", model=f"{MODEL}1")
    first.release()
    await sure(lambda: first.calls == [["a"], ["b"]])
    others += await submit(store, "d")
    first.release()
    await sure(lambda: second.running == 1)
    assert second.calls == [["suspect"]]
    assert first.running == 0
    second.release(2)
    assert statuses(await finished(store, [suspect, *late])) == [Status.SUCCEEDED] * 2
    first.release()
    assert statuses(await finished(store, others)) == [Status.SUCCEEDED] * 3


async def _claimed(store: JobStore, job: Job) -> None:
    async def running() -> bool:
        return (await store.get(job.id)).status is Status.RUNNING

    await until(running)


async def test_the_watchdog_names_what_took_too_long(
    store: JobStore, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()
    work = HeldWork(held=True)
    jobs = await submit(store, "a", "b")
    await start(work, watchdog=Watchdog(0.1, end=ended.set, backstop=False))
    assert await asyncio.to_thread(ended.wait, LONG_SECONDS)
    (record,) = [record for record in caplog.records if record.name == "serving.jobs.watchdog"]
    assert f"jobs {jobs[0].id}, {jobs[1].id}: the attempt took longer than 0.1 s" in record.getMessage()


def test_the_watchdog_leaves_alone_what_is_quick() -> None:
    ended = threading.Event()
    watchdog = Watchdog(1.0, end=ended.set, backstop=False)
    watchdog.start()
    for _ in range(11):  # longer than the limit together, and each far from it
        with watchdog.watch(["quick"]):
            time.sleep(0.1)
    assert not ended.wait(0.1)
    watchdog.stop()


# --- leases ---


async def test_a_lease_outlasts_a_blocked_loop(store: JobStore, settings: Settings, start: Start) -> None:
    short = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"lease_seconds": 2.0})})
    work = HeldWork(held=True)
    jobs = await submit(store, "a")
    await start(work, settings=short)
    await sure(lambda: work.running == 1)
    time.sleep(3.0)  # noqa: ASYNC251 - the loop of the worker is this one
    await store.maintain()
    assert await store.claim(MODEL, "thief", limit=1) == []
    work.release()
    (done,) = await finished(store, jobs)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)


async def test_a_cancelled_job_is_not_begun_and_its_result_is_not_recorded(
    store: JobStore,
    settings: Settings,
    start: Start,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    short = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"lease_seconds": 0.6})})
    work = HeldWork(max_batch_rows=1, held=True)
    jobs = await submit(store, *"ab")
    await start(work, settings=short)
    await sure(lambda: work.running == 1 and len(work.prepared) == 2)
    for job in jobs:
        await store.cancel(job.id)
    # With the next renewals the worker is told.
    await sure(lambda: sum("does not hold any more" in record.getMessage() for record in caplog.records) == 2)
    work.release(2)
    await sure(
        lambda: registry.get_sample_value("serving_job_attempts_total", {"model": MODEL, "outcome": "lost"}) == 2
    )
    assert work.calls == [["a"]]
    assert statuses(await finished(store, jobs)) == [Status.CANCELLED] * 2


# --- outages ---


class Flaky:
    """A store of which the methods that are named fail for the next times."""

    def __init__(self, store: JobStore, failures: dict[str, list[Exception]]) -> None:
        self._store = store
        self._failures = failures

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **options: Any) -> Any:
            if self._failures.get(name):
                raise self._failures[name].pop(0)
            return await method(*args, **options)

        return call


async def test_outages_end_nothing_and_lose_nothing(store: JobStore, settings: Settings, start: Start) -> None:
    names = ("open", "claim", "wait_for_work", "succeed", "fail", "maintain", "stats", "renew")
    failures: dict[str, list[Exception]] = {name: [UnavailableError("away", retry_after=1)] * 3 for name in names}
    jobs = await submit(store, "a", "spoilt", "b")
    await start(HeldWork(), make_store=lambda: Flaky(open_store(settings.jobs), failures))
    assert statuses(await finished(store, jobs)) == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    (last,) = await finished(store, await submit(store, "c"))
    assert (last.status, last.attempts) == (Status.SUCCEEDED, 1)
    for name in ("claim", "succeed", "fail"):
        assert failures[name] == []


async def test_a_fault_of_the_store_is_logged_and_the_worker_goes_on(
    store: JobStore, settings: Settings, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    failures: dict[str, list[Exception]] = {name: [RuntimeError(f"bug in {name}")] for name in ("claim", "maintain")}
    await start(HeldWork(), make_store=lambda: Flaky(open_store(settings.jobs), failures))
    assert statuses(await finished(store, await submit(store, "a"))) == [Status.SUCCEEDED]
    logged = {str(record.exc_info[1]) for record in caplog.records if record.exc_info}
    assert {"bug in claim"} <= logged


async def test_readiness_is_that_of_engines_store_and_drain(settings: Settings, start: Start) -> None:
    failures: dict[str, list[Exception]] = {"maintain": []}
    worker, task = await start(HeldWork(), make_store=lambda: Flaky(open_store(settings.jobs), failures))
    await sure(lambda: worker.ready)
    failures["maintain"] = [UnavailableError("away", retry_after=1)]
    await sure(lambda: not worker.ready)
    await sure(lambda: worker.ready)
    worker.drain()
    assert not worker.ready
    assert await task


# --- the drain ---


async def test_a_drain_finishes_what_runs_and_gives_back_the_rest(store: JobStore, start: Start) -> None:
    work = HeldWork(max_batch_rows=1, held=True)
    running, ahead, queued = jobs = await submit(store, *"abc")
    worker, task = await start(work)
    await sure(lambda: len(work.prepared) == 2)
    worker.drain()

    async def given_back() -> bool:
        return (await store.get(ahead.id)).status is Status.QUEUED

    await until(given_back)
    assert not task.done()
    work.release()
    assert await asyncio.wait_for(task, LONG_SECONDS)
    now = [await store.get(job.id) for job in jobs]
    assert statuses(now) == [Status.SUCCEEDED, Status.QUEUED, Status.QUEUED]
    assert [job.attempts for job in now] == [1, 0, 0]
    assert [job.id for job in now] == [running.id, ahead.id, queued.id]
    assert work.calls == [["a"]]


async def test_an_idle_worker_drains_at_once(start: Start) -> None:
    worker, task = await start(HeldWork())
    await sure(lambda: worker.ready)
    began = time.monotonic()
    worker.drain()
    assert await asyncio.wait_for(task, LONG_SECONDS)
    assert time.monotonic() - began < 20  # of the 25 that a drain may take


async def test_after_the_grace_what_runs_is_given_back(store: JobStore, settings: Settings, start: Start) -> None:
    brief = settings.model_copy(update={"server": settings.server.model_copy(update={"drain_seconds": 0.2})})
    work = HeldWork(max_batch_rows=1, held=True)
    jobs = await submit(store, "a")
    worker, task = await start(work, settings=brief)
    await sure(lambda: work.running == 1)
    worker.drain()
    assert not await asyncio.wait_for(task, LONG_SECONDS), "the thread still runs"
    (job,) = [await store.get(job.id) for job in jobs]
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


def test_the_drain_leaves_time_to_give_back() -> None:
    assert drain_limit(25) == 24
    assert drain_limit(1) == 0.5
    assert drain_limit(0) == 0


# --- metrics ---


async def test_what_is_counted(store: JobStore, start: Start, registry: CollectorRegistry) -> None:
    jobs = await submit(store, "a", "refused", "broken", max_retries=1)
    worker, task = await start(HeldWork())
    await finished(store, jobs)
    worker.drain()
    assert await task

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model": MODEL, **labels})

    assert value("serving_jobs_finished_total", status="succeeded") == 1
    assert value("serving_jobs_finished_total", status="failed") == 2
    assert value("serving_job_attempts_total", outcome="succeeded") == 1
    assert value("serving_job_attempts_total", outcome="failed") == 3
    assert value("serving_job_duration_seconds_count") == 4
    assert value("serving_job_wait_seconds_count") == 3
    assert value("serving_jobs", status="queued") is not None
    assert value("serving_jobs_oldest_queued_seconds") is not None
