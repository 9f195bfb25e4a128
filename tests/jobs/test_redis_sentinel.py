"""Redis behind Sentinels: the store follows the master, wherever it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from redis.asyncio import Redis

from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs.job import Status
from serving.jobs.redis_store import RedisJobStore
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import claim_one, submit, until
from tests.jobs.redis_server import PrivateRedis, private_redis, private_sentinel

__all__ = ["private_redis", "private_sentinel"]

pytestmark = pytest.mark.anyio

StartRedis = Callable[..., PrivateRedis]


async def follows(replica: PrivateRedis) -> None:
    """Return once it has what its master has."""

    async def linked() -> bool:
        async with Redis.from_url(replica.url) as redis:
            return bool((await redis.info("replication")).get("master_link_status") == "up")

    await until(linked)


async def test_sentinels_with_logins_of_their_own(private_redis: StartRedis, private_sentinel: StartRedis) -> None:
    """The first one is down; database and login are those of the master."""
    master = private_redis("--requirepass", "se/cr@et")
    sentinel = private_sentinel(master, "auth-pass mymaster se/cr@et")
    async with Redis(port=sentinel.port) as one:
        await one.execute_command("ACL", "SETUSER", "default", "resetpass", ">own")
    url = (
        f"redis+sentinel://:se%2Fcr%40et@127.0.0.1:1,[::1]:1,127.0.0.1:{sentinel.port}/mymaster/3"
        "?sentinel_password=own&socket_timeout=4"
    )
    store = RedisJobStore(JobsSettings(url=url))
    try:
        await store.open()
        await submit(store, id="one")
        assert (await claim_one(store)).lease.job_id == "one"
        async with Redis(port=master.port, password="se/cr@et", db=3) as redis:  # noqa: S106
            assert await redis.exists("{serving}:jobs:job:one")
    finally:
        await store.close()


async def test_a_master_that_has_become_a_replica_is_left(private_redis: StartRedis) -> None:
    """Its connections stay open, as behind a proxy or a name that leads to another server now."""
    first, second = private_redis(), private_redis()
    current = [first]
    open_connections: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", current[0].port)
            for source, target in ((reader, back), (there, writer)):
                task = asyncio.create_task(_copy(source, target))
                open_connections.add(task)
                task.add_done_callback(open_connections.discard)

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as proxy, Redis.from_url(first.url) as one:
        url = f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0"
        store = RedisJobStore(JobsSettings(url=url))
        try:
            await store.open()
            await submit(store, id="before")
            async with Redis.from_url(second.url) as other:
                await other.execute_command("REPLICAOF", "127.0.0.1", first.port)
                await follows(second)
                await one.wait(1, 0)
                await other.execute_command("REPLICAOF", "NO", "ONE")
            current[0] = second
            await one.execute_command("REPLICAOF", "127.0.0.1", second.port)
            await follows(first)
            # No caller is turned away: the step is run again, over a new connection.
            await submit(store, id="after")
            assert [job.id for job in (await store.page()).jobs] == ["after", "before"]
            async with Redis.from_url(second.url) as other:
                assert await other.exists("{serving}:jobs:job:after")
        finally:
            await store.close()
            for task in open_connections:
                task.cancel()
            await asyncio.wait(open_connections)
            await asyncio.sleep(0)  # for the transports to close


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
    finally:
        target.close()


async def test_a_job_is_accepted_when_enough_replicas_have_it(private_redis: StartRedis) -> None:
    master = private_redis()
    store = RedisJobStore(JobsSettings(url=master.url, min_replicas=1))
    try:
        await store.open()
        with pytest.raises(UnavailableError) as refused:
            await submit(store, id="one")
        assert "fewer than 1 replicas" in str(refused.value.__cause__)
        replica = private_redis("--replicaof", "127.0.0.1", str(master.port))
        async with Redis.from_url(master.url) as redis:
            await redis.set("anything", 1)
            await redis.wait(1, 0)
        # The same id again, as a caller sends it that got 503.
        assert (await submit(store, id="one")).status is Status.QUEUED
        await submit(store, id="two")
        async with Redis.from_url(replica.url) as redis:
            assert await redis.exists("{serving}:jobs:job:one", "{serving}:jobs:payload:two") == 2
    finally:
        await store.close()


def test_a_cluster_cannot_be_asked_for_replicas() -> None:
    with pytest.raises(ConfigurationError, match=r"^jobs\.min_replicas: "):
        RedisJobStore(JobsSettings(url="redis://host/0?cluster=true", min_replicas=1))
