"""A Redis that cannot serve us: the log says why in one line, callers get 503, and all goes on when the fault ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from serving.core.errors import UnavailableError
from serving.jobs.redis_store import RedisJobStore
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import LONG_SECONDS, submit, until
from tests.jobs.redis_server import PrivateRedis, private_redis, private_sentinel

__all__ = ["private_redis", "private_sentinel"]

pytestmark = pytest.mark.anyio

StartRedis = Callable[..., PrivateRedis]
Step = Callable[[Redis, Path], Awaitable[None]]


def commands(*lines: str) -> Step:
    async def run(redis: Redis, directory: Path) -> None:  # noqa: ARG001 - see Step
        for line in lines:
            await redis.execute_command(*line.split())

    return run


def user(rights: str) -> Step:
    return commands(f"ACL SETUSER app {rights}")


async def _saved(redis: Redis, status: str) -> bool:
    state = await redis.info("persistence")
    if not state["rdb_bgsave_in_progress"] and state["rdb_last_bgsave_status"] != status:
        await redis.bgsave()
    return bool(state["rdb_last_bgsave_status"] == status)


async def disk_fails(redis: Redis, directory: Path) -> None:
    (directory / "dump.rdb").mkdir()
    await redis.config_set("save", "3600 1000")
    await until(lambda: _saved(redis, "err"))


async def disk_works(redis: Redis, directory: Path) -> None:
    (directory / "dump.rdb").rmdir()
    await until(lambda: _saved(redis, "ok"))


@dataclass
class Fault:
    """What begins and ends it on a real server, the user of the URL, and words of the line in the log."""

    begin: Step
    end: Step
    words: tuple[str, ...]
    login: str = ""


ALL = "on >secret ~* &* +@all"
FAULTS = {
    "replica": Fault(commands("REPLICAOF 127.0.0.1 1"), commands("REPLICAOF NO ONE"), ("replica", "READONLY")),
    "needs a password": Fault(
        commands("CONFIG SET requirepass secret"), commands("ACL SETUSER default nopass"), ("password", "NOAUTH")
    ),
    "wrong password": Fault(user(ALL), user(">wrong"), ("password", "WRONGPASS"), "app:wrong@"),
    "user is off": Fault(user(f"{ALL} off"), user("on"), ("user", "WRONGPASS"), "app:secret@"),
    "command": Fault(user(f"{ALL} -zadd"), user("+zadd"), ("NOPERM", "zadd", "docs/jobs.md"), "app:secret@"),
    "script": Fault(user(f"{ALL} -evalsha"), user("+evalsha"), ("NOPERM", "evalsha"), "app:secret@"),
    "key": Fault(user("on >secret ~a:* &* +@all"), user("~{test}:*"), ("key", "{test}:jobs:*"), "app:secret@"),
    "channel": Fault(user(f"{ALL} resetchannels"), user("&{test}:*"), ("channel", "publish"), "app:secret@"),
    "memory": Fault(commands("CONFIG SET maxmemory 1"), commands("CONFIG SET maxmemory 0"), ("OOM", "maxmemory")),
    "disk": Fault(disk_fails, disk_works, ("MISCONF",)),
    "replicas": Fault(
        commands("CONFIG SET min-replicas-to-write 1"), commands("CONFIG SET min-replicas-to-write 0"), ("NOREPLICAS",)
    ),
}


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno >= logging.WARNING]


async def _use(store: RedisJobStore) -> None:
    await store.cancel((await submit(store)).id)
    await store.maintain()


async def _used_at_last(store: RedisJobStore) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while True:
        try:
            return await _use(store)
        except UnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_named_once_and_its_end_is_noticed(
    private_redis: StartRedis, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "serving.jobs.redis")
    server, fault = private_redis(), FAULTS[name]
    redis = Redis.from_url(server.url)
    await fault.begin(redis, server.directory)
    store = RedisJobStore(JobsSettings(url=server.url.replace("//", f"//{fault.login}"), namespace="test"))
    try:
        with suppress(UnavailableError):  # what it tries may be what is still served
            await store.open()
        for _ in range(2):
            with pytest.raises(UnavailableError, match=r"^the job store is not available just now; try again$"):
                await _use(store)
        (line,) = _warnings(caplog)
        assert not [word for word in fault.words if word.lower() not in line.lower()], line
        assert "secret" not in line
        await fault.end(redis, server.directory)
        await _used_at_last(store)
        assert len(_warnings(caplog)) == 1
        assert sum("is back" in each.message for each in caplog.records) == 1
    finally:
        await store.close()
        await redis.aclose()


async def test_a_fault_that_follows_another_is_named_too(
    private_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_redis()
    server.kill()
    store = RedisJobStore(JobsSettings(url=server.url))
    try:
        with pytest.raises(UnavailableError):
            await store.open()
        server.start()
        async with Redis.from_url(server.url) as redis:
            await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await _use(store)
        first, second = _warnings(caplog)
        assert "Connect call failed" in first
        assert "READONLY" in second
    finally:
        await store.close()


async def _says(url: str, caplog: pytest.LogCaptureFixture) -> str:
    """The one line for a store that cannot be opened by this URL, and can neither be used."""
    store = RedisJobStore(JobsSettings(url=url))
    try:
        for call in (store.open, lambda: submit(store)):
            with pytest.raises(UnavailableError):
                await call()
    finally:
        await store.close()
    (line,) = _warnings(caplog)
    return line


async def test_sentinels_and_servers_are_told_apart(
    private_redis: StartRedis, private_sentinel: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_redis()
    sentinel = private_sentinel(server)
    assert "it is a Sentinel" in await _says(f"redis://127.0.0.1:{sentinel.port}/0", caplog)
    caplog.clear()
    assert "it is no Sentinel" in await _says(f"redis+sentinel://127.0.0.1:{server.port}/mymaster", caplog)
    caplog.clear()
    line = await _says(sentinel.url.replace("mymaster", "another"), caplog)
    assert "master another" in line
    assert "watches mymaster" in line
    caplog.clear()
    assert "no Redis Cluster: leave ?cluster=true out" in await _says(f"{server.url}?cluster=true", caplog)
    caplog.clear()
    assert "no database of this number" in await _says(server.url.removesuffix("0") + "99", caplog)


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    """The words of the next command; none at the end."""
    words = []
    for _ in range(int((await reader.readline())[1:] or 0)):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


@pytest.mark.parametrize(
    ("hello", "answer", "words"),
    [
        (b"-ERR unknown command 'HELLO'\r\n", b"", "HELLO: Redis 6.0 or later"),
        (b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n", b"", "HELLO: Redis 6.0 or later"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", b"", "LOADING"),
        (b"-DENIED Redis is running in protected mode because\r\n", b"", "protected-mode"),
        (b"-ERR max number of clients reached\r\n", b"", "max number of clients"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", "no Redis"),
        (HELLO, b"-MOVED 1649 127.0.0.1:7001\r\n", "add ?cluster=true"),
        (HELLO, b"-CLUSTERDOWN Hash slot not served\r\n", "the cluster has no node"),
        (HELLO, b"-BUSY Redis is busy running a script.\r\n", "BUSY"),
        (HELLO, b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        # Redis 6 puts a script's errors into the middle of its own.
        (HELLO, b"-ERR Error running script (call to f_1): @user_script:3: -READONLY You can't write\r\n", "READONLY"),
        (HELLO, b"-ERR Error running script (call to f_1): @user_script:3: -OOM command not\r\n", "OOM"),
    ],
)
async def test_what_a_server_answers_is_named(
    caplog: pytest.LogCaptureFixture, hello: bytes, answer: bytes, words: str
) -> None:
    """Servers that are hard to have here."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await _command(reader):
            writer.write({b"HELLO": hello, b"CLIENT": b"+OK\r\n"}.get(command[0], answer))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        line = await _says(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", caplog)
    assert words in line


async def test_nothing_of_a_job_is_in_the_log(private_redis: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = private_redis("--rename-command", "SET", "")
    store = RedisJobStore(JobsSettings(url=server.url))
    try:
        await store.open()
        with pytest.raises(UnavailableError) as refused:
            await submit(store, payload=b"private")
        assert "SET" in caplog.text
        assert "private" not in caplog.text + str(refused.value) + str(refused.value.__cause__).split(", with args")[0]
    finally:
        await store.close()
