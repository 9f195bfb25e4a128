"""The master of a Redis behind a Sentinel changes while jobs are on their way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.core.errors import UnavailableError
from tests.faults.scene import LONG_SECONDS, Scene
from tests.faults.works import Order
from tests.jobs.factory import until
from tests.jobs.redis_server import PrivateRedis, private_redis, private_sentinel
from tests.jobs.test_redis_sentinel import follows

__all__ = ["private_redis", "private_sentinel"]

pytestmark = pytest.mark.anyio
StartRedis = Callable[..., PrivateRedis]
# The test says when, and not a machine that does much else.
NEVER = "down-after-milliseconds mymaster 600000"


@pytest.mark.parametrize("killed", [True, False], ids=["the master is killed", "the master is asked to step down"])
async def test_a_failover_costs_nothing(
    private_redis: StartRedis, private_sentinel: StartRedis, tmp_path: Path, *, killed: bool
) -> None:
    """What was accepted is done once, by the same workers, which find the new master by themselves."""
    master = private_redis()
    replicas = [private_redis("--replicaof", "127.0.0.1", str(master.port)) for _ in range(2)]
    for replica in replicas:
        await follows(replica)
    sentinel = private_sentinel(master, NEVER)
    settings = {"lease_seconds": 4 * LONG_SECONDS, "min_replicas": 1}
    async with Redis(port=sentinel.port) as asked, Scene(tmp_path, sentinel.url, **settings) as scene:
        await until(lambda: _knows_replicas(asked))
        worker = await scene.start_ready_worker(concurrency=2)
        process = worker.worker()
        held = [await scene.submit(Order(gate="all"), max_retries=0) for _ in range(2)]
        await scene.until_started(*held)
        queued = [await scene.submit(Order(), max_retries=0) for _ in range(5)]
        async with Redis.from_url(master.url) as redis:
            await redis.set("the last word", 1)
            await redis.wait(2, 0)
        if killed:
            master.kill()
            with pytest.raises(UnavailableError):
                await scene.submit(Order())
        await asked.execute_command("SENTINEL", "FAILOVER", "mymaster")
        scene.open_gate("all")

        await until(lambda: _is_elsewhere(asked, master.port))
        later = await _accepted_at_last(scene)
        jobs = await scene.finished([*held, *queued, later])
        assert {job.attempts for job in jobs.values()} == {1}
        assert worker.worker() == process, "the worker has died of it"
        assert worker.terminate() == 0
        await scene.check_once(jobs)
        assert "Traceback" not in worker.log.read_text()


async def _accepted_at_last(scene: Scene) -> str:
    found: list[str] = []

    async def accepted() -> bool:
        try:
            found.append(await scene.submit(Order(), max_retries=0))
        except UnavailableError:  # the other replica does not follow the new master yet
            return False
        return True

    await until(accepted)
    return found[0]


async def _knows_replicas(sentinel: Redis) -> bool:
    replicas = await sentinel.sentinel_slaves("mymaster")
    return [each["master-link-status"] for each in replicas] == ["ok", "ok"]


async def _is_elsewhere(sentinel: Redis, port: int) -> bool:
    return int((await sentinel.sentinel_master("mymaster"))["port"]) != port
