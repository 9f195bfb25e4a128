"""The connections of the Redis job store: what is tried again, and what is said of a Redis that does not serve us."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterPubSub, RedisCluster
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import (
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs.redis_common import Script
from serving.jobs.redis_errors import is_read_only, trouble_of
from serving.jobs.redis_url import ANSWER_SECONDS, Target, target_of

log = logging.getLogger("serving.jobs.redis")

# Enough to keep Redis busy. With more, as many submissions could become ready in one turn of the event loop.
CONNECTIONS = 4
# What was uploaded for a script that then did not run goes by itself.
UPLOAD_MILLISECONDS = 60_000
REPLICATION_MILLISECONDS = 1_000
# Enough for a restart's broken connections; an outage is the caller's to wait out.
PAUSES = (0.02, 0.1, 0.3)
PATIENCE_SECONDS = 1.0


class RedisLink:
    """Runs scripts and waits on lists and channels. Connects when it is first used, and again after any outage.

    Blocking waits have connections apart from those for the scripts, which they would use up.

    Args:
        prefix: of all keys.
        min_replicas: that know what somebody is told of, before `run` returns.

    Raises:
        ConfigurationError: the URL is none; see `serving.jobs.redis_url`.
    """

    def __init__(self, url: str, prefix: str, *, min_replicas: int = 0) -> None:
        target = target_of(url)
        self._prefix = prefix
        if min_replicas and target.cluster:
            raise ConfigurationError("jobs.min_replicas: of a Redis Cluster this cannot be asked")
        self._min_replicas = min_replicas
        self.address = target.address
        self._answer_seconds = target.answer_seconds
        try:
            clients = _cluster(target) if target.cluster else _single(target)
        except (ValueError, TypeError):
            # Without its cause: that may quote the password.
            raise ConfigurationError("jobs.url: an option of it is unknown, or has no such value") from None
        self._tls = target.tls
        self._sentinels = target.sentinels
        self._scripts: Redis | RedisCluster = clients[0]
        self._waits: Redis | RedisCluster = clients[1]
        self._troubles: dict[str, Script | str | None] = {}
        self._connected = False

    async def info(self, section: str) -> dict[str, Any]:
        """What the server tells of itself; nothing when it does not do that."""
        async with self._served("info"):
            try:
                answer: dict[str, Any] = await self._scripts.info(section)
            except ResponseError as error:  # managed servers have no INFO, or none for us
                if trouble_of(error) is None:
                    raise
                return {}
        return answer

    async def run(
        self, script: Script, *arguments: str | bytes | float, upload: tuple[bytes, bytes] | None = None
    ) -> Any:
        """Run it; again after a lost connection. `upload` is a key and what to set it to before.

        Raises:
            UnavailableError: Redis is away, or did not answer in time.
        """
        async with self._served(script):
            if self._sentinels is not None and await self._sentinels.has_changed():
                await self._leave()
            deadline = time.monotonic() + PATIENCE_SECONDS
            for pause in PAUSES:
                try:
                    return await self._run(script, *arguments, upload=upload)
                except (ConnectionError, ReadOnlyError):
                    if time.monotonic() + pause > deadline:
                        raise
                    await asyncio.sleep(pause)
            return await self._run(script, *arguments, upload=upload)

    async def _run(self, script: Script, *arguments: str | bytes | float, upload: tuple[bytes, bytes] | None) -> Any:
        try:
            try:
                return await self._evaluate("EVALSHA", script, script.sha, *arguments, upload=upload)
            except NoScriptError:  # a new Redis, or one that was restarted
                return await self._evaluate("EVAL", script, script.text, *arguments, upload=upload)
        except ResponseError as error:
            if is_read_only(error):
                await self._leave()
            raise

    async def _evaluate(
        self, how: str, script: Script, what: str, *arguments: str | bytes | float, upload: tuple[bytes, bytes] | None
    ) -> Any:
        replicas = self._min_replicas if script.told else 0
        if upload is None and not replicas:
            return await self._scripts.execute_command(how, what, 1, self._prefix, *arguments)
        async with self._scripts.pipeline(transaction=False) as commands:
            if upload is not None:
                commands.set(*upload, px=UPLOAD_MILLISECONDS)
            commands.execute_command(how, what, 1, self._prefix, *arguments)
            if replicas:
                commands.execute_command("WAIT", replicas, REPLICATION_MILLISECONDS)
            # Raised by the library, an error would repeat the command, which may hold a user's image.
            answers = await commands.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if replicas and answers.pop() < replicas:
            raise ResponseError(f"fewer than {replicas} replicas have what has changed (jobs.min_replicas)")
        return answers[-1]

    async def _leave(self) -> None:
        """Close the connections to a server that has become a replica: the next ones go to its master."""
        for client in (self._scripts, self._waits):
            if isinstance(client, Redis):
                await client.connection_pool.disconnect(inuse_connections=False)

    async def pop(self, key: bytes, seconds: float) -> bool:
        """Take an element from a list, or wait up to `seconds` for one; whether there was one."""
        async with self._served("wait", seconds):
            return await self._waits.blpop([key], timeout=max(0.001, round(seconds, 3))) is not None

    def channel(self) -> PubSub | ClusterPubSub:
        return self._waits.pubsub()

    async def close(self) -> None:
        for client in (self._scripts, self._waits, self._sentinels):
            # The server was unreachable; there is nothing to close.
            with suppress(RedisError, OSError, RedisClusterException):
                if client is not None:
                    await client.aclose()

    @asynccontextmanager
    async def _served(self, what: Script | str, seconds: float = 0.0) -> AsyncIterator[None]:
        """Limit the block to `seconds` plus one answer timeout.

        Raises UnavailableError for what means that Redis cannot serve us.
        """
        try:
            async with asyncio.timeout(seconds + self._answer_seconds):
                yield
        except Exception as error:
            if not self.noted(error, what):
                raise
            raise UnavailableError("the job store is not available just now; try again", retry_after=1) from error
        self._note_success(what)

    def noted(self, error: Exception, what: Script | str) -> bool:
        """Say once in the log why Redis does not serve us; false when that is not what the error means.

        Args:
            what: was wanted of it.
        """
        script = what if isinstance(what, Script) else None
        trouble = trouble_of(error, script, prefix=self._prefix, tls=self._tls, first=not self._connected)
        if trouble is None:
            return False
        if trouble.kind not in self._troubles:
            self._troubles[trouble.kind] = what if trouble.partial else None
            log.warning("the job store at %s does not serve us: %s", self.address, trouble.reason)
        return True

    def _note_success(self, what: Script | str) -> None:
        self._connected = True
        if not self._troubles:
            return
        over = [kind for kind, met in self._troubles.items() if _includes(what, met)]
        for kind in over:
            del self._troubles[kind]
        if over and not self._troubles:
            log.info("the job store at %s is back", self.address)


def _includes(served: Script | str, met: Script | str | None) -> bool:
    """Whether what met trouble would be served now. While the memory is full Redis still answers what only reads."""
    if isinstance(served, Script) and isinstance(met, Script):
        return served.body.startswith(met.body)
    return met in (None, served)


def _single(target: Target) -> tuple[Redis, Redis]:
    options = dict(target.options)
    if options.get("connection_class") is not UnixDomainSocketConnection:
        options["socket_keepalive"] = True
    scripts = BlockingConnectionPool(max_connections=CONNECTIONS, timeout=ANSWER_SECONDS, **options)
    waits = ConnectionPool(health_check_interval=10, **options)
    # Refuses unknown options now, not at the first use.
    scripts.make_connection()  # type: ignore[no-untyped-call]
    return Redis.from_pool(scripts), Redis.from_pool(waits)


def _cluster(target: Target) -> tuple[RedisCluster, RedisCluster]:
    options = dict(target.options)
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    options.pop("db", None)
    return RedisCluster(**options), RedisCluster(health_check_interval=10, **options)
