"""A user of Redis with exactly the rights that docs/jobs.md names, on Redis and on Valkey."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.core.errors import ConflictError, NotFoundError
from serving.jobs import redis_claims, redis_common, redis_scripts
from serving.jobs.job import Status
from serving.jobs.redis_common import Script
from serving.jobs.redis_store import RedisJobStore
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import BROKEN, LONG_SECONDS, MODEL, claim_one, new_job, next_claim, submit, until
from tests.jobs.redis_server import PrivateRedis, private_redis, valkey_server

__all__ = ["private_redis", "valkey_server"]

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "jobs.md"
# Of the connections themselves.
CONNECTIONS = {"eval", "evalsha", "select", "ping", "info", "wait", "blpop", "subscribe", "set"}


def documented() -> list[str]:
    """The words of the command."""
    (command,) = re.findall(r"^ACL SETUSER .*?(?=^```)", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return command.split()


def test_the_rights_are_those_that_the_scripts_need() -> None:
    scripts = [
        value
        for module in (redis_scripts, redis_claims, redis_common)
        for value in vars(module).values()
        if isinstance(value, Script)
    ]
    called = {name.lower() for script in scripts for name in re.findall(r"redis\.p?call\('(\w+)'", script.text)}
    assert {word[1:] for word in documented() if word.startswith("+")} == called | CONNECTIONS


async def everything(store: RedisJobStore) -> None:
    """Every step, and every way of waiting."""
    await store.open()
    idle = asyncio.create_task(next_claim(store))
    await asyncio.sleep(0.05)
    await store.submit(new_job(id="one", idempotency_key="key", fingerprint="print"))
    async with asyncio.timeout(LONG_SECONDS):
        lease = (await idle)[0].lease
    assert (await store.submit(new_job(idempotency_key="key", fingerprint="print"))).existing
    with pytest.raises(ConflictError):
        await store.submit(new_job(idempotency_key="key", fingerprint="another"))
    assert await store.renew([lease]) == {"one"}
    assert await store.release(lease)
    assert await store.fail((await claim_one(store)).lease, BROKEN, retryable=True)
    assert await store.fail((await next_claim(store))[0].lease, BROKEN, retryable=False)
    await store.retry("one", ttl_seconds=50)
    await store.claim(MODEL, "dead", limit=1)
    assert await store.abandon("dead") == 1
    lease = (await next_claim(store))[0].lease
    waiting = asyncio.create_task(store.wait("one", 1000))
    await asyncio.sleep(0.05)
    assert await store.succeed(lease, b"1")
    async with asyncio.timeout(LONG_SECONDS):
        assert (await waiting).result == b"1"
    await submit(store, id="two", ttl_seconds=0.01)
    await submit(store, id="three")
    await store.cancel("three")
    await submit(store, id="four")
    await asyncio.sleep(0.1)
    assert (await store.get("two")).status is Status.EXPIRED
    await store.maintain()
    with pytest.raises(NotFoundError):
        await store.get("one")
    assert {job.id for job in (await store.page()).jobs} == {"two", "four"}
    counts = (await store.stats())[MODEL].counts
    assert (counts[Status.EXPIRED], counts[Status.QUEUED]) == (1, 1)


@pytest.mark.parametrize("program", ["redis-server", "valkey-server"])
@pytest.mark.parametrize("namespace", ["serving", "team:serving"])
async def test_these_rights_are_enough(
    request: pytest.FixtureRequest, private_redis: Callable[..., PrivateRedis], program: str, namespace: str
) -> None:
    if program == "valkey-server":
        program = request.getfixturevalue("valkey_server")
    server = private_redis(program=program)
    async with Redis.from_url(server.url) as redis:
        words = [
            word.replace("{serving}:", f"{namespace.removesuffix('serving')}{{serving}}:") for word in documented()
        ]
        await redis.execute_command(*words)
        url = server.url.replace("//", "//serving:PASSWORD@").removesuffix("0") + "1"
        settings = JobsSettings(
            url=url, namespace=namespace, result_retention_seconds=0.05, backoff_seconds=[0.05], lease_seconds=60
        )
        store = RedisJobStore(settings)
        try:
            await everything(store)
        finally:
            await store.close()
        assert await redis.execute_command("ACL", "LOG") == [], "the user was denied something"


async def is_up(redis: Redis) -> bool:
    return b"cluster_state:ok" in await redis.execute_command("CLUSTER", "INFO")


@pytest.mark.parametrize("program", ["redis-server", "valkey-server"])
@pytest.mark.parametrize("query", ["", "?cluster=true"], ids=["one node", "cluster"])
async def test_every_step_runs_on_a_cluster(
    request: pytest.FixtureRequest, private_redis: Callable[..., PrivateRedis], program: str, query: str
) -> None:
    """It lets a script use the keys of one slot only."""
    if program == "valkey-server":
        program = request.getfixturevalue("valkey_server")
    server = private_redis("--cluster-enabled", "yes", program=program)
    settings = JobsSettings(
        url=f"{server.url}{query}", result_retention_seconds=0.05, backoff_seconds=[0.05], lease_seconds=60
    )
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(lambda: is_up(redis))
        store = RedisJobStore(settings)
        try:
            await everything(store)
        finally:
            await store.close()
        keys = await redis.keys("*")
        assert keys
        assert {key.split(b"}")[0] for key in keys} == {b"{serving"}
