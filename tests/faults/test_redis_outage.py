"""Redis is killed and started again while jobs are on their way. SQLite has no server that could be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.core.errors import UnavailableError
from serving.jobs.job import Status
from tests.faults.scene import LEASE_SECONDS, LONG_SECONDS, Scene
from tests.faults.works import Order
from tests.jobs.factory import until
from tests.jobs.redis_server import PrivateRedis

pytestmark = pytest.mark.anyio
StartRedis = Callable[..., PrivateRedis]


async def refused(scene: Scene) -> None:
    """A job that is submitted now is not accepted."""
    with pytest.raises(UnavailableError) as caught:
        await scene.submit(Order())
    assert caught.value.retry_after is not None


async def waits_for_its_retry(scene: Scene, job_id: str) -> bool:
    return (await scene.store.get(job_id)).due_at is not None


async def until_running(scene: Scene, count: int) -> None:
    """So many jobs are claimed. When that is all that the workers have room for, no claim is on its way."""

    async def are_running() -> bool:
        return len(await scene.with_status(Status.RUNNING)) == count

    await until(are_running)


async def test_a_short_outage_costs_nothing(private_redis: StartRedis, tmp_path: Path) -> None:
    """No lease ends meanwhile: so not even an attempt is lost, whether a job waits, raises, returns or is queued."""
    redis = private_redis()
    async with Scene(tmp_path, redis.url, lease_seconds=4 * LONG_SECONDS, backoff_seconds=[1.0]) as scene:
        worker = await scene.start_ready_worker(concurrency=2)
        waits = await scene.submit(Order(raise_attempts=1, gate="retry", gated_attempts=0), max_retries=1)
        await scene.until_ended(waits)
        await until(lambda: waits_for_its_retry(scene, waits))
        raises = await scene.submit(Order(raise_attempts=1, gate="both"), max_retries=1)
        returns = await scene.submit(Order(gate="both"), max_retries=0)
        await scene.until_started(raises, returns)
        queued = [await scene.submit(Order(), max_retries=0) for _ in range(5)]
        await until_running(scene, 3)
        process = worker.worker()
        assert process is not None

        redis.kill()
        await refused(scene)
        scene.open_gate("both")
        await scene.until_ended(raises, returns)
        await scene.until(lambda: "the store cannot be told" in worker.log.read_text(), "the worker was turned away")
        await refused(scene)
        redis.start()

        jobs = await scene.finished([waits, raises, returns, *queued])
        attempts = {job_id: job.attempts for job_id, job in jobs.items()}
        assert attempts == {waits: 2, raises: 2, returns: 1, **dict.fromkeys(queued, 1)}
        assert worker.worker() == process, "the worker has died of it"
        assert worker.terminate() == 0
        await scene.check_once(jobs)
        assert len((await scene.store.page()).jobs) == len(jobs), "what was refused is there"


async def test_an_outage_longer_than_the_leases_costs_nothing(private_redis: StartRedis, tmp_path: Path) -> None:
    """Nobody could renew them, so their ends say nothing of the workers."""
    redis = private_redis()
    async with Scene(tmp_path, redis.url) as scene:
        workers = await scene.start_ready_workers(2, concurrency=2)
        raises = await scene.submit(Order(raise_attempts=1, gate="all"), max_retries=1)
        others = [await scene.submit(Order(gate="all"), max_retries=0) for _ in range(8)]
        await until_running(scene, 6)
        await scene.until(lambda: len(scene.lines("start")) == 4, "both workers are busy")
        processes = [worker.worker() for worker in workers]

        redis.kill()
        await refused(scene)
        scene.open_gate("all")
        await scene.until(lambda: len(scene.lines("end")) >= 4, "results wait for the store")
        await asyncio.sleep(1.2 * LEASE_SECONDS)
        redis.start()

        jobs = await scene.finished([raises, *others])
        attempts = {job_id: job.attempts for job_id, job in jobs.items()}
        assert attempts == {raises: 2, **dict.fromkeys(others, 1)}, "the outage has ended leases"
        assert [worker.worker() for worker in workers] == processes, "a worker has died of it"
        for worker in workers:
            assert worker.terminate() == 0
        await scene.check_once(jobs)


async def test_a_worker_that_redis_turns_away_says_why_and_waits(private_redis: StartRedis, tmp_path: Path) -> None:
    redis = private_redis()
    async with Redis.from_url(redis.url) as connection, Scene(tmp_path, redis.url) as scene:
        await connection.execute_command("ACL", "SETUSER", "app", "on", ">right", "~*", "&*", "+@all")
        scene.settings["url"] = redis.url.replace("//", "//app:wrong@")
        job = await scene.submit(Order())
        worker = scene.start_worker()
        await scene.until(lambda: "no jobs can be claimed" in worker.log.read_text(), "the worker was turned away")
        log = worker.log.read_text()
        # It has two stores, as leases are renewed over connections of their own.
        assert 1 <= log.count("does not serve us: it refuses the user or the password (WRONGPASS)") <= 2
        assert "Traceback" not in log
        assert "wrong" not in log
        await connection.execute_command("ACL", "SETUSER", "app", ">wrong")
        await scene.finished([job])
        assert worker.terminate() == 0
