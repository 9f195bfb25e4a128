"""The connections of the Redis job store: which errors mean that Redis is away, and what is tried again."""

from __future__ import annotations

import asyncio
import builtins
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterPubSub, RedisCluster
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterError,
    ConnectionError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs.redis_common import Script

log = logging.getLogger("serving.jobs.redis")

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
# Enough to keep Redis busy. With more, as many submissions could become ready in one turn of the event loop.
CONNECTIONS = 4
# What was uploaded for a script that then did not run goes by itself.
UPLOAD_MILLISECONDS = 60_000
# Enough for a restart's broken connections; an outage is the caller's to wait out.
PAUSES = (0.02, 0.1, 0.3)
PATIENCE_SECONDS = 1.0

# ConnectionError includes a refused password and a server that is loading its file.
AWAY = (
    ConnectionError,
    TimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    NoPermissionError,
    ClusterError,
    TryAgainError,
    RedisClusterException,
)
# Errors that have no class: Redis cannot write its file, has too few replicas, runs the long script of another client,
# or ended a blocking call because it became a replica.
_AWAY_CODES = ("MISCONF ", "NOREPLICAS ", "BUSY ", "UNBLOCKED ")
# Redis 6 puts the errors of a script's commands into the middle of its own.
_AWAY_IN_SCRIPT = ("-OOM ", "-READONLY ", "-MISCONF ", "-NOREPLICAS ")


def is_away(error: Exception) -> bool:
    """Whether it is Redis that cannot serve us now, not we that asked for nonsense."""
    if isinstance(error, (*AWAY, builtins.TimeoutError)):
        return True
    reason = str(error)
    return isinstance(error, ResponseError) and (
        reason.startswith(_AWAY_CODES) or any(code in reason for code in _AWAY_IN_SCRIPT)
    )


class RedisLink:
    """Runs scripts and waits on lists and channels. Connects when it is first used, and again after any outage.

    Blocking waits have connections apart from those for the scripts, which they would use up.
    `?cluster=true` in the URL is for a Redis Cluster.

    Raises:
        ConfigurationError: the URL is none. The message does not repeat it.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query))
            cluster = query.pop("cluster", "false").lower() in ("true", "yes", "1")
            options: dict[str, Any] = dict(parse_url(parts._replace(query=urlencode(query)).geturl()))
            self.address = _address(options, parts.scheme)
            self._answer_seconds = float(options.pop("socket_timeout", ANSWER_SECONDS))
            # An unescaped / or # in a password makes something else of the rest: then the @ is found there.
            if "@" in f"{parts.path}{parts.fragment}" and parts.scheme != "unix":
                raise ValueError
            clients = _cluster(options) if cluster else _single(options)
        except (ValueError, TypeError):
            # Without its cause: that may quote the password.
            raise ConfigurationError("jobs.url: Redis cannot be reached by it; escape / # ? @ in a password") from None
        self._scripts: Redis | RedisCluster = clients[0]
        self._waits: Redis | RedisCluster = clients[1]
        self._reachable = True

    async def ping(self) -> None:
        async with self._served():
            await self._scripts.ping()

    async def configuration(self, name: str) -> str | None:
        """A setting of the server; `None` when it does not tell us."""
        async with self._served():
            try:
                answer: dict[Any, Any] = await self._scripts.config_get(name)
            except ResponseError as error:  # managed servers have no CONFIG, or none for us
                if isinstance(error, NoPermissionError) or "unknown command" in str(error).lower():
                    return None
                raise
        return answer.get(name)

    async def run(
        self, script: Script, prefix: str, *arguments: str | bytes | float, upload: tuple[bytes, bytes] | None = None
    ) -> Any:
        """Run it; again after a lost connection. `upload` is a key and what to set it to before.

        Raises:
            UnavailableError: Redis is away, or did not answer in time.
        """
        async with self._served():
            deadline = time.monotonic() + PATIENCE_SECONDS
            for pause in PAUSES:
                try:
                    return await self._run(script, prefix, *arguments, upload=upload)
                except ConnectionError:
                    if time.monotonic() + pause > deadline:
                        raise
                    await asyncio.sleep(pause)
            return await self._run(script, prefix, *arguments, upload=upload)

    async def _run(
        self, script: Script, prefix: str, *arguments: str | bytes | float, upload: tuple[bytes, bytes] | None
    ) -> Any:
        try:
            return await self._evaluate("EVALSHA", script.sha, 1, prefix, *arguments, upload=upload)
        except NoScriptError:  # a new Redis, or one that was restarted
            return await self._evaluate("EVAL", script.text, 1, prefix, *arguments, upload=upload)

    async def _evaluate(self, *command: str | bytes | float, upload: tuple[bytes, bytes] | None) -> Any:
        if upload is None:
            return await self._scripts.execute_command(*command)
        async with self._scripts.pipeline(transaction=False) as both:
            both.set(*upload, px=UPLOAD_MILLISECONDS)
            both.execute_command(*command)
            try:
                return (await both.execute())[1]
            except ResponseError as error:
                # The library's message contains the command, which may hold a user's image.
                reason = str(error).rpartition(" of pipeline caused error: ")[2]
                error.args = (reason.removeprefix("(").strip("'\""),)
                raise

    async def pop(self, key: bytes, seconds: float) -> bool:
        """Take an element from a list, or wait up to `seconds` for one; whether there was one."""
        async with self._served(seconds):
            return await self._waits.blpop([key], timeout=max(0.001, round(seconds, 3))) is not None

    def channel(self) -> PubSub | ClusterPubSub:
        return self._waits.pubsub()

    async def close(self) -> None:
        for client in (self._scripts, self._waits):
            # The server was unreachable; there is nothing to close.
            with suppress(*AWAY):
                await client.aclose()

    @asynccontextmanager
    async def _served(self, seconds: float = 0.0) -> AsyncIterator[None]:
        """Limit the block to `seconds` plus one answer timeout.

        Raises UnavailableError for what means that Redis is away; says so in the log when that changes.

        Raises:
            ConfigurationError: the Redis is a cluster and the URL does not say so.
        """
        try:
            async with asyncio.timeout(seconds + self._answer_seconds):
                yield
        except MovedError:
            raise ConfigurationError("jobs.url: that Redis is a cluster; add ?cluster=true") from None
        except Exception as error:
            if not is_away(error):
                raise
            if self._reachable:
                self._reachable = False
                log.warning("the job store at %s does not serve us: %s", self.address, error)
            raise UnavailableError("the job store is not available just now; try again", retry_after=1) from error
        if not self._reachable:
            self._reachable = True
            log.info("the job store at %s is back", self.address)


def _address(options: dict[str, Any], scheme: str) -> str:
    """For people, without user and password."""
    if "path" in options:
        return f"{scheme}://{options['path']}"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _common(options: dict[str, Any]) -> dict[str, Any]:
    # Not even a URL may have replies decoded; and the library would repeat what must not be. With a timeout of its own
    # it writes by asyncio.wait_for, which in Python 3.11 loses a cancellation that comes when the write is done.
    ours = {"decode_responses": False, "retry": Retry(NoBackoff(), 0), "socket_timeout": None}
    return {"socket_connect_timeout": CONNECT_SECONDS} | options | ours


def _single(options: dict[str, Any]) -> tuple[Redis, Redis]:
    common = _common(options)
    if common.get("connection_class") is not UnixDomainSocketConnection:
        common["socket_keepalive"] = True
    scripts = BlockingConnectionPool(max_connections=CONNECTIONS, timeout=ANSWER_SECONDS, **common)
    waits = ConnectionPool(health_check_interval=10, **common)
    # Refuses unknown options now, not at the first use.
    scripts.make_connection()  # type: ignore[no-untyped-call]
    return Redis.from_pool(scripts), Redis.from_pool(waits)


def _cluster(options: dict[str, Any]) -> tuple[RedisCluster, RedisCluster]:
    common = _common(options)
    if common.pop("connection_class", None) is not None:
        common["ssl"] = True
    common.pop("db", None)
    return RedisCluster(**common), RedisCluster(health_check_interval=10, **common)
