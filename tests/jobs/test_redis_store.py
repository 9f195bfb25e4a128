"""What is particular to the job store in Redis: outages, clusters, what it says of the server, wake-ups."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError

from serving.core.errors import ConfigurationError, ConflictError, OverloadedError, UnavailableError
from serving.jobs import redis_link, redis_store
from serving.jobs.job import JobError, Status
from serving.jobs.redis_common import Script
from serving.jobs.redis_store import RedisJobStore
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import BROKEN, LONG_SECONDS, MODEL, claim_one, new_job, next_claim, submit, until
from tests.jobs.redis_server import GivenRedis, PrivateRedis, private_redis

__all__ = ["private_redis"]

pytestmark = pytest.mark.anyio

StartRedis = Callable[..., PrivateRedis]
PASSWORD = "se%23cret"  # noqa: S105 - of a server that lives as long as the test


@asynccontextmanager
async def opened(url: str, *, namespace: str = "test", **changes: Any) -> AsyncIterator[RedisJobStore]:
    settings = {"lease_seconds": 60.0, "backoff_seconds": [0.05]} | changes
    store = RedisJobStore(JobsSettings(url=url, namespace=namespace, **settings))
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Redis]:
    connection = Redis.from_url(url)
    try:
        yield connection
    finally:
        await connection.aclose()


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
async def store(redis_server: GivenRedis, namespace: str) -> AsyncIterator[RedisJobStore]:
    async with opened(redis_server.url, namespace=namespace) as one:
        yield one


@pytest.fixture
async def redis(redis_server: GivenRedis) -> AsyncIterator[Redis]:
    async with client(redis_server.url) as one:
        yield one


# --- outages ---


async def _once_back(call: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + LONG_SECONDS
    while True:
        try:
            return await call()
        except UnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_nothing_accepted_is_lost_when_redis_is_killed(
    private_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.jobs.redis")
    server = private_redis()
    async with opened(server.url, backoff_seconds=[0.5]) as store:
        for name in ("done", "running", "again", "a", "b"):
            await submit(store, id=name, payload=name.encode())
        done, running, again = (one.lease for one in await store.claim(MODEL, "worker", limit=3))
        await store.succeed(done, b"[1]")
        await store.fail(again, BROKEN, retryable=True)
        server.kill()
        for call in (
            lambda: submit(store, id="late"),
            lambda: store.get("a"),
            lambda: store.wait("running", 10),
            lambda: store.claim(MODEL, "worker", limit=1),
            lambda: store.wait_for_work(MODEL, 10),
            lambda: store.succeed(running, b"[2]"),
            store.maintain,
            store.stats,
        ):
            with pytest.raises(UnavailableError) as away:
                await call()
            assert away.value.retry_after == 1
            assert away.value.__cause__ is not None
        server.start()
        assert await store.succeed(running, b"[2]")
        assert [(await store.get(name)).result for name in ("done", "running")] == [b"[1]", b"[2]"]
        claimed = []
        while len(claimed) < 3:
            claimed += [one.payload for one in await next_claim(store, limit=9)]
        assert sorted(claimed) == [b"a", b"again", b"b"]
    said = [record.message for record in caplog.records]
    assert sum("does not serve us" in line for line in said) == 1
    assert sum("is back" in line for line in said) == 1


async def test_every_submission_that_was_answered_outlives_a_kill(private_redis: StartRedis) -> None:
    server = private_redis()
    accepted: set[str] = set()
    async with opened(server.url) as store:

        async def keep_submitting() -> None:
            while True:
                try:
                    accepted.add((await submit(store)).id)
                except UnavailableError:
                    await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(keep_submitting()) for _ in range(4)]
        for count in (20, 40, 60):
            await until(lambda count=count: _are(accepted, count))  # type: ignore[misc]
            server.kill()
            await asyncio.sleep(0.05)
            server.start()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for job_id in accepted:
            assert (await store.get(job_id)).status is Status.QUEUED


async def _are(accepted: set[str], count: int) -> bool:
    return len(accepted) >= count


async def test_a_store_that_opened_without_redis_connects_when_there_is_one(private_redis: StartRedis) -> None:
    server = private_redis()
    server.kill()
    store = RedisJobStore(JobsSettings(url=server.url))
    try:
        with pytest.raises(UnavailableError):
            await store.open()
        server.start()
        assert (await submit(store)).status is Status.QUEUED
    finally:
        await store.close()


async def test_who_waits_is_woken_after_an_outage(private_redis: StartRedis) -> None:
    """The subscription is made again, and what happened meanwhile is looked up."""
    server = private_redis()
    async with opened(server.url) as store, opened(server.url) as other:
        await submit(store, id="one")
        lease = (await claim_one(store)).lease
        waiting = asyncio.create_task(_once_back(lambda: store.wait("one", 1000)))
        await asyncio.sleep(0.05)
        server.kill()
        server.start()
        assert await _once_back(lambda: other.succeed(lease, b"1"))
        async with asyncio.timeout(LONG_SECONDS):
            assert (await waiting).result == b"1"


async def test_without_memory_nothing_is_accepted_and_what_was_is_worked_off(
    private_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_redis()
    async with opened(server.url) as store, client(server.url) as redis:
        for name in ("a", "b", "c"):
            await submit(store, id=name)
        await redis.config_set("maxmemory", "1")
        with pytest.raises(UnavailableError) as refused:
            await submit(store, id="d", payload=b"private")
        assert "private" not in str(refused.value.__cause__)
        assert "memory" in caplog.text
        assert "private" not in caplog.text
        for name in ("a", "b", "c"):
            claimed = await claim_one(store)
            assert await store.renew([claimed.lease]) == {name}
            if name == "a":
                assert await store.succeed(claimed.lease, b"1")
            elif name == "b":
                assert await store.fail(claimed.lease, BROKEN, retryable=False)
            else:
                assert await store.release(claimed.lease)
                await store.cancel("c")
        await store.maintain()
        await redis.config_set("maxmemory", "0")
        counts = (await store.stats())[MODEL].counts
        assert [counts[status] for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)] == [1, 1, 1]
        assert sum(counts.values()) == 3


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        # Nobody is there, so it keeps what it has.
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ],
)
async def test_a_server_that_takes_no_writes_is_unavailable(private_redis: StartRedis, begin: str, end: str) -> None:
    server = private_redis()
    async with opened(server.url) as store, client(server.url) as redis:
        await submit(store, id="one")
        await redis.execute_command(*begin.split())
        with pytest.raises(UnavailableError):
            await submit(store, id="two")
        with pytest.raises(UnavailableError):
            await store.claim(MODEL, "worker", limit=1)
        await redis.execute_command(*end.split())
        assert (await store.stats())[MODEL].counts[Status.QUEUED] == 1
        assert (await claim_one(store)).lease.job_id == "one"


async def test_our_own_mistakes_are_not_taken_for_an_outage(store: RedisJobStore, redis: Redis, namespace: str) -> None:
    await redis.set(f"{{{namespace}}}:jobs:models", "not a set")
    for call in (store.stats, lambda: submit(store, payload=b" -OOM MISCONF ")):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await call()


async def test_scripts_are_loaded_again_when_redis_has_forgotten_them(private_redis: StartRedis) -> None:
    server = private_redis()
    async with opened(server.url) as store, client(server.url) as redis:
        await submit(store, id="one")
        await redis.script_flush()
        assert (await claim_one(store)).lease.job_id == "one"


# --- an answer that was lost ---


@pytest.fixture
def lossy(store: RedisJobStore, monkeypatch: pytest.MonkeyPatch) -> list[Script]:
    """The answer to the first run of each script is lost; the scripts that were run."""
    ran: list[Script] = []
    run = store._link._run

    async def lose(script: Script, *arguments: Any, **upload: Any) -> Any:
        answer = await run(script, *arguments, **upload)
        ran.append(script)
        if ran.count(script) == 1:
            raise ConnectionError("lost")
        return answer

    monkeypatch.setattr(store._link, "_run", lose)
    return ran


async def test_a_repeated_step_answers_as_the_first(store: RedisJobStore, lossy: list[Script]) -> None:
    accepted = await store.submit(new_job(id="one", idempotency_key="key", fingerprint="print", max_retries=1))
    assert (accepted.existing, accepted.job.position) == (False, 0)
    (claimed,) = await store.claim(MODEL, "worker", limit=1)
    assert (claimed.lease.attempt, claimed.payload) == (1, b"payload")
    assert await store.release(claimed.lease)
    (claimed,) = await store.claim(MODEL, "worker", limit=1)
    assert claimed.lease.attempt == 1
    assert await store.fail(claimed.lease, BROKEN, retryable=True)
    (claimed,) = await next_claim(store)
    assert claimed.lease.attempt == 2
    assert await store.fail(claimed.lease, BROKEN, retryable=True)
    assert (await store.get("one")).status is Status.FAILED
    assert (await store.retry("one", ttl_seconds=50)).status is Status.QUEUED
    (claimed,) = await store.claim(MODEL, "worker", limit=1)
    assert await store.renew([claimed.lease]) == {"one"}
    assert await store.succeed(claimed.lease, b"1")
    await submit(store, id="two")
    assert (await store.cancel("two")).status is Status.CANCELLED
    assert (await store.get("one")).result == b"1"
    # Every one of them was run twice at least.
    assert min(lossy.count(script) for script in lossy) > 1


@asynccontextmanager
async def _answers_lost(store: RedisJobStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    run = store._link._run

    async def lose(script: Script, *arguments: Any, **upload: Any) -> Any:
        await run(script, *arguments, **upload)
        raise ConnectionError("lost")

    with monkeypatch.context() as lossy:
        lossy.setattr(store._link, "_run", lose)
        with pytest.raises(UnavailableError):
            yield


async def test_what_an_unanswered_claim_gave_is_given_to_the_next(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        await submit(store, id=name)
    async with _answers_lost(store, monkeypatch):
        await store.claim(MODEL, "worker", limit=2)
    assert (await store.get("one")).status is Status.RUNNING
    assert [one.lease.job_id for one in await store.claim(MODEL, "other", limit=1)] == ["three"]
    again = await store.claim(MODEL, "worker", limit=2)
    assert [(one.lease.job_id, one.lease.attempt) for one in again] == [("one", 1), ("two", 1)]
    assert await store.succeed(again[0].lease, b"1")
    # It is answered now: the next one is another.
    assert await store.claim(MODEL, "worker", limit=2) == []


async def test_a_job_that_was_cancelled_meanwhile_is_not_given_again(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(store, id="one")
    await submit(store, id="two")
    async with _answers_lost(store, monkeypatch):
        await store.claim(MODEL, "worker", limit=1)
    await store.cancel("one")
    assert [one.lease.job_id for one in await store.claim(MODEL, "worker", limit=1)] == ["two"]


async def test_the_lease_of_an_unanswered_claim_runs_out(
    redis_server: GivenRedis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server.url, namespace=namespace, lease_seconds=0.5) as store:
        await submit(store, id="one")
        async with _answers_lost(store, monkeypatch):
            await store.claim(MODEL, "worker", limit=1)
        (claimed,) = await next_claim(store, "other")
        assert (claimed.lease.job_id, claimed.lease.attempt) == ("one", 2)


async def test_a_lease_whose_time_is_over_holds_until_the_job_is_given_back(
    redis_server: GivenRedis, namespace: str
) -> None:
    """After an outage that was longer than a lease the workers may still finish what they do."""
    async with opened(redis_server.url, namespace=namespace, lease_seconds=0.5) as store:
        await submit(store, id="one")
        lease = (await claim_one(store)).lease
        await asyncio.sleep(0.6)
        assert await store.renew([lease]) == {"one"}
        await asyncio.sleep(0.6)
        assert await store.succeed(lease, b"1")


async def test_nothing_is_left_of_a_job_that_was_refused(
    redis_server: GivenRedis, redis: Redis, namespace: str
) -> None:
    async with opened(redis_server.url, namespace=namespace, max_queue_jobs=1) as store:
        one = new_job(idempotency_key="key", fingerprint="print", payload=b"first")
        await store.submit(one)
        await store.submit(one)
        await store.submit(new_job(idempotency_key="key", fingerprint="print"))
        for refused in (new_job(), new_job(idempotency_key="key", fingerprint="another")):
            with pytest.raises((OverloadedError, ConflictError)):
                await store.submit(refused)
        found = await redis.keys(f"{{{namespace}}}:jobs:*")
        kinds = [key.decode().split(":")[2] for key in found]
        assert (kinds.count("job"), kinds.count("payload"), kinds.count("incoming")) == (1, 1, 0)
        assert await redis.ttl(f"{{{namespace}}}:jobs:payload:{one.id}") == -1


async def test_a_job_whose_input_was_evicted_fails(store: RedisJobStore, redis: Redis, namespace: str) -> None:
    await submit(store, id="one")
    await redis.delete(f"{{{namespace}}}:jobs:payload:one")
    await submit(store, id="two")
    assert (await claim_one(store)).lease.job_id == "two"
    job = await store.get("one")
    assert (job.status, job.error) == (Status.FAILED, JobError("input_lost", "the store has lost the input of the job"))
    with pytest.raises(ConflictError, match=r"^the job cannot be retried: the store has lost the input of the job$"):
        await store.retry("one", ttl_seconds=1)


# --- what it says of the server ---


def _messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == level]


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ((), ()),
        (("--maxmemory-policy", "allkeys-lru"), ("maxmemory_policy allkeys-lru",)),
        (("--appendonly", "no"), ("aof_enabled 0",)),
    ],
)
async def test_a_server_that_may_lose_jobs_is_warned_of(
    private_redis: StartRedis, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], warned: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO, "serving.jobs.redis")
    async with opened(private_redis(*options).url):
        pass
    warnings = _messages(caplog, logging.WARNING)
    assert len(warnings) == len(warned)
    for words, line in zip(warned, warnings, strict=True):
        assert words in line


async def test_a_server_that_does_not_tell_its_settings_can_be_used(
    private_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.jobs.redis")
    async with opened(private_redis("--rename-command", "INFO", "").url) as store:
        await submit(store)
    assert _messages(caplog, logging.WARNING) == []
    assert sum("does not tell" in line for line in _messages(caplog, logging.INFO)) == 2


async def test_the_password_is_shown_nowhere(private_redis: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = private_redis("--requirepass", "se#cret")
    shown = []
    for password in (PASSWORD, "wrong-se%23cret"):
        url = server.url.replace("//", f"//:{password}@")
        settings = JobsSettings(url=url)
        store = RedisJobStore(settings)
        shown += [repr(store), str(vars(store)), repr(settings)]
        try:
            await store.open()
            await submit(store)
        except UnavailableError as error:
            shown += [repr(error), str(error), error.message, repr(error.__cause__), str(error.__cause__)]
        finally:
            await store.close()
    assert "WRONGPASS" in caplog.text
    assert server.url.removeprefix("redis://") in caplog.text
    assert "cret" not in "".join([*shown, caplog.text])


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret#@host/0",
        "redis://:secret/@host/0",
        "redis://user:12/secret@host",
        "redis://:secret@host:port/0",
        "redis://:secret@host/0?unknown=1",
        "redis://:secret@host/0?socket_timeout=x",
        "rediss://:secret@host/0?cluster=true&unknown=1",
    ],
)
def test_an_unusable_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisJobStore(JobsSettings(url=url))
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


# --- waiting ---


async def test_a_lost_message_delays_who_waits_no_longer_than_the_next_look(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store._waiters, "_listen", deaf)
    monkeypatch.setattr(redis_store, "RECHECK_SECONDS", 0.1)
    await submit(store, id="one")
    lease = (await claim_one(store)).lease
    waiting = asyncio.create_task(store.wait("one", 1000))
    await asyncio.sleep(0.02)
    await store.succeed(lease, b"1")
    async with asyncio.timeout(LONG_SECONDS):
        assert (await waiting).result == b"1"


async def test_messages_wake_who_waits_long_before_the_next_look(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "RECHECK_SECONDS", 1000)
    for turn in range(3):
        await submit(store, id=str(turn))
        lease = (await claim_one(store)).lease
        waiting = asyncio.create_task(store.wait(str(turn), 1000))
        await asyncio.sleep(0.02 * turn)  # before and after the subscription
        await store.succeed(lease, b"1")
        async with asyncio.timeout(LONG_SECONDS):
            assert (await waiting).status is Status.SUCCEEDED
    assert store._waiters._events == {}


async def test_what_happens_before_the_subscription_is_not_missed(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "RECHECK_SECONDS", 1000)
    make, subscribing, finished = store._link.channel, asyncio.Event(), asyncio.Event()

    def late() -> Any:
        channel = make()
        subscribe = channel.subscribe

        async def when_finished(*names: str) -> None:
            subscribing.set()
            await finished.wait()
            await subscribe(*names)

        channel.subscribe = when_finished  # type: ignore[method-assign]
        return channel

    monkeypatch.setattr(store._link, "channel", late)
    await submit(store, id="one")
    lease = (await claim_one(store)).lease
    waiting = asyncio.create_task(store.wait("one", 1000))
    async with asyncio.timeout(LONG_SECONDS):
        await subscribing.wait()
    await store.succeed(lease, b"1")
    assert not waiting.done()
    finished.set()
    async with asyncio.timeout(LONG_SECONDS):
        assert (await waiting).status is Status.SUCCEEDED


async def test_a_cancelled_call_ends_wherever_it_is(redis_server: GivenRedis) -> None:
    """Also between connecting and answering, where one that was lost made a caller go on."""
    for steps in range(60):
        store = RedisJobStore(JobsSettings(url=redis_server.url))

        async def call(store: RedisJobStore = store) -> None:
            await store.stats()
            await asyncio.Event().wait()

        task = asyncio.create_task(call())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=LONG_SECONDS)
        await store.close()
        assert done, steps


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = RedisJobStore(JobsSettings(url=f"redis://127.0.0.1:{port}?socket_timeout=0.1"))
        for call in (store.open, store.stats, lambda: store.wait_for_work(MODEL, 0.1)):
            with pytest.raises(UnavailableError):
                await call()
        await store.close()


async def _subscribed(redis: Redis) -> bool:
    return any(one["cmd"] == "subscribe" for one in await redis.client_list())


async def test_a_hundred_who_wait_share_one_connection(private_redis: StartRedis) -> None:
    server = private_redis()
    async with opened(server.url) as store, client(server.url) as redis:
        await submit(store, id="one")
        lease = (await claim_one(store)).lease
        waiting = [asyncio.create_task(store.wait("one", 1000)) for _ in range(100)]
        await until(lambda: _subscribed(redis))
        await asyncio.sleep(0.3)  # for more, if there are more
        clients = await redis.client_list()
        assert sum(one["cmd"] == "subscribe" for one in clients) == 1
        assert len(clients) <= redis_link.CONNECTIONS + 2
        await store.succeed(lease, b"1")
        async with asyncio.timeout(LONG_SECONDS):
            assert {job.status for job in await asyncio.gather(*waiting)} == {Status.SUCCEEDED}


async def _tokens(redis: Redis, namespace: str) -> int:
    return int(await redis.llen(f"{{{namespace}}}:jobs:wake:{MODEL}"))


async def test_tokens_are_bounded_and_go_with_the_last_ready_job(
    store: RedisJobStore, redis: Redis, namespace: str
) -> None:
    await submit(store)
    assert await _tokens(redis, namespace) == 1
    for _ in range(80):
        await submit(store)
    assert await _tokens(redis, namespace) == 64
    await store.claim(MODEL, "worker", limit=80)
    assert await _tokens(redis, namespace) > 0
    await store.claim(MODEL, "worker", limit=80)
    assert await _tokens(redis, namespace) == 0


async def test_work_that_is_left_wakes_the_next_worker_though_the_token_was_lost(
    store: RedisJobStore, redis: Redis, namespace: str
) -> None:
    for _ in range(3):
        await submit(store)
    await redis.delete(f"{{{namespace}}}:jobs:wake:{MODEL}")
    async with asyncio.timeout(LONG_SECONDS):
        await store.wait_for_work(MODEL, 1000)
    await claim_one(store)
    assert await _tokens(redis, namespace) == 1


async def test_a_worker_that_sleeps_looks_again_though_the_token_was_lost(
    store: RedisJobStore, redis: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "IDLE_SECONDS", 0.1)
    idle = asyncio.create_task(store.wait_for_work(MODEL, 1000))
    await asyncio.sleep(0.02)
    # As submit does it, without the token.
    await redis.zadd(f"{{{namespace}}}:jobs:ready:{MODEL}", {"one": 1})
    async with asyncio.timeout(LONG_SECONDS):
        await idle


async def test_cancelling_who_waits_for_work_leaves_a_usable_store(store: RedisJobStore) -> None:
    idle = asyncio.create_task(store.wait_for_work(MODEL, 1000))
    await asyncio.sleep(0.05)
    idle.cancel()
    await asyncio.wait([idle])
    assert idle.cancelled()
    await submit(store, id="one")
    assert (await next_claim(store))[0].lease.job_id == "one"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await store.wait_for_work(MODEL, 1000)


async def test_a_closed_store_is_unavailable(store: RedisJobStore) -> None:
    await store.close()
    with pytest.raises(UnavailableError):
        await store.get("one")
