"""Jobs in Redis: any number of hosts share one queue.

What durability needs of the server: `appendonly yes`, and `maxmemory-policy noeviction`. With `appendfsync everysec` a
crash of its host, or a failover to a replica, may lose what was accepted in the last second or two.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from serving.core.errors import ServingError, UnavailableError
from serving.jobs import redis_scripts as scripts
from serving.jobs.job import (
    INPUT_LOST,
    WORKER_DIED,
    Claimed,
    Job,
    JobError,
    JobPage,
    Lease,
    ModelStats,
    NewJob,
    Status,
    Submitted,
    cannot_cancel,
    cannot_retry,
    cannot_retry_without_input,
    key_is_taken,
    not_a_cursor,
    not_found,
    queue_is_full,
)
from serving.jobs.redis_claims import CLAIM, NEXT_DUE
from serving.jobs.redis_common import BOUND, PROBE, Script
from serving.jobs.redis_link import RedisLink, log
from serving.jobs.redis_waiters import Waiters
from serving.settings.jobs import JobsSettings

# Most seconds that a lost message or a lost token costs.
RECHECK_SECONDS = 2.0
IDLE_SECONDS = 1.0
MAINTAIN_ROUNDS = 20

_CURSOR = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)
# Sections of INFO, which more users may call than CONFIG.
_DURABLE = (("memory", "maxmemory_policy", "noeviction"), ("persistence", "aof_enabled", 1))


class RedisJobStore:
    """A JobStore whose every step is one Lua script, on the clock of the Redis server.

    Raises:
        ConfigurationError: the URL is not valid.
    """

    def __init__(self, settings: JobsSettings) -> None:
        above, _, namespace = settings.namespace.rpartition(":")
        self._prefix = f"{above}{':' if above else ''}{{{namespace}}}:jobs:"
        self._settings = json.dumps(
            {
                "lease": settings.lease_seconds,
                "backoff": settings.backoff_seconds,
                "result_retention": settings.result_retention_seconds,
                "failure_retention": settings.failure_retention_seconds,
                "max_jobs": settings.max_queue_jobs,
                "max_bytes": settings.max_queue_bytes,
                "bound": BOUND,
                "worker_died": WORKER_DIED.message,
                "input_lost": INPUT_LOST.message,
            }
        )
        self._link = RedisLink(settings.url, self._prefix, min_replicas=settings.min_replicas)
        self._waiters = Waiters(self._link, f"{self._prefix}done")
        self._pops: set[asyncio.Task[bool]] = set()
        self._unanswered: dict[tuple[str, str], str] = {}
        self._closed = False

    async def open(self) -> None:
        await self._run(PROBE)
        log.info("jobs are kept at %s", self._link.address)
        for section, name, wanted in _DURABLE:
            value = (await self._link.info(section)).get(name)
            if value is None:
                log.info("%s does not tell its %s; jobs need %s", self._link.address, name, wanted)
            elif value != wanted:
                log.warning("%s has %s %s: jobs may be lost; they need %s", self._link.address, name, value, wanted)

    async def close(self) -> None:
        self._closed = True
        for task in self._pops:
            task.cancel()
        await self._waiters.close()
        await self._link.close()

    async def submit(self, new: NewJob) -> Submitted:
        kind, *answer = await self._run(
            scripts.SUBMIT,
            _key(new.id),
            _key(new.model),
            _text(new.parameters),
            new.max_retries,
            new.ttl_seconds,
            _text(new.fingerprint),
            _key(new.idempotency_key or ""),
            upload=(_key(f"{self._prefix}incoming:{new.id}"), new.payload),
        )
        if kind == b"conflict":
            raise key_is_taken()
        _refuse_if_full(kind, answer)
        return Submitted(_job(answer[0]), kind == b"existing")

    async def get(self, job_id: str) -> Job:
        view = await self._run(scripts.GET, _key(job_id))
        if view is None:
            raise not_found()
        return _job(view)

    async def wait(self, job_id: str, seconds: float) -> Job:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._waiters.waiting(_key(job_id)) as event:
            while True:
                event.clear()
                job = await self.get(job_id)
                left = deadline - loop.time()
                if job.status.finished or left <= 0:
                    return job
                try:
                    async with asyncio.timeout(min(left, RECHECK_SECONDS)):
                        await event.wait()
                except TimeoutError:
                    pass
                if self._closed:
                    return job

    async def page(
        self, *, status: Status | None = None, model: str | None = None, limit: int = 50, after: str | None = None
    ) -> JobPage:
        if after is not None and not _CURSOR.fullmatch(after):
            raise not_a_cursor()
        views, last = await self._run(scripts.PAGE, status or "", _key(model or ""), limit, after or "")
        return JobPage([_job(view) for view in views], last.decode() if last else None)

    async def cancel(self, job_id: str) -> Job:
        return _changed(await self._run(scripts.CANCEL, _call(), _key(job_id)), cannot_cancel)

    async def retry(self, job_id: str, *, ttl_seconds: float) -> Job:
        return _changed(await self._run(scripts.RETRY, _call(), _key(job_id), ttl_seconds), cannot_retry)

    async def stats(self) -> dict[str, ModelStats]:
        return {
            _name(model): ModelStats(
                dict(zip(Status, counts, strict=True)), float(oldest), int(queued_bytes), float(finished)
            )
            for model, counts, oldest, queued_bytes, finished in await self._run(scripts.STATS)
        }

    async def wait_for_work(self, model: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            due = float(await self._run(NEXT_DUE, _key(model)))
            left = deadline - loop.time()
            if due <= 0 or left <= 0 or await self._woken(model, min(due, left, IDLE_SECONDS)):
                return

    async def _woken(self, model: str, seconds: float) -> bool:
        task = asyncio.create_task(self._link.pop(_key(f"{self._prefix}wake:{model}"), seconds))
        self._pops.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._closed:  # `close` has cancelled the wait, not the caller
                return True
            task.cancel()
            raise
        finally:
            self._pops.discard(task)

    async def claim(self, model: str, owner: str, *, limit: int) -> list[Claimed]:
        # The name of a call is kept until it is answered: a later claim then gets the jobs of the lost answer.
        call = self._unanswered.pop((model, owner), None) or _call()
        rows: list[Any] | None = None
        try:
            rows = await self._run(CLAIM, _key(model), _key(owner), limit, call)
        finally:
            if rows is None:
                self._unanswered[model, owner] = call
        return [
            Claimed(
                Lease(_name(job_id), model, owner, attempt),
                payload,
                parameters.decode(),
                float(created),
                suspected == 1,
            )
            for job_id, attempt, payload, parameters, created, suspected in rows
        ]

    async def renew(self, leases: Sequence[Lease]) -> set[str]:
        triples = [part for lease in leases for part in _lease(lease)]
        return {_name(job_id) for job_id in await self._run(scripts.RENEW, *triples)}

    async def succeed(self, lease: Lease, result: bytes) -> bool:
        return await self._run(scripts.SUCCEED, *_lease(lease), result) == 1

    async def fail(self, lease: Lease, error: JobError, *, retryable: bool) -> bool:
        code, message = _text(error.code), _text(error.message)
        return await self._run(scripts.FAIL, _call(), *_lease(lease), code, message, int(retryable)) == 1

    async def release(self, lease: Lease) -> bool:
        return await self._run(scripts.RELEASE, _call(), *_lease(lease)) == 1

    async def abandon(self, owner: str) -> int:
        return int(await self._run(scripts.ABANDON, _key(owner)))

    async def maintain(self) -> None:
        for _ in range(MAINTAIN_ROUNDS):
            if not await self._run(scripts.MAINTAIN):
                return

    async def _run(
        self, script: Script, *arguments: str | bytes | float, upload: tuple[bytes, bytes] | None = None
    ) -> Any:
        if self._closed:
            raise UnavailableError("the job store is closed", retry_after=1)
        return await self._link.run(script, self._settings, *arguments, upload=upload)


def _call() -> str:
    """A name for one call, by which its repetition is known."""
    return secrets.token_hex(8)


def _key(name: str) -> bytes:
    # No job has a name that is not Unicode, but a caller may ask for one.
    return name.encode("utf-8", "surrogatepass")


def _name(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _lease(lease: Lease) -> tuple[bytes, bytes, int]:
    return _key(lease.job_id), _key(lease.owner), lease.attempt


def _changed(answer: list[Any], conflict: Callable[[Status], ServingError]) -> Job:
    """The job after a change; raises what the script has found instead."""
    kind, *rest = answer
    if kind == b"missing":
        raise not_found()
    if kind == b"conflict":
        raise conflict(Status(rest[0].decode()))
    if kind == b"lost":
        raise cannot_retry_without_input()
    _refuse_if_full(kind, rest)
    return _job(rest[0])


def _refuse_if_full(kind: bytes, answer: list[Any]) -> None:
    if kind == b"full":
        raise queue_is_full(int(answer[0]), float(answer[1]))


def _job(view: list[Any]) -> Job:
    """The job in what `view` of the scripts returns."""
    job_id, fields, position, *result = view
    model, status, attempts, max_retries, created, expires, started, finished, due, code, message = fields
    state = Status(status.decode())
    shows_error = code is not None and state in (Status.QUEUED, Status.FAILED, Status.EXPIRED)
    return Job(
        id=_name(job_id),
        model=_name(model),
        status=state,
        attempts=int(attempts),
        max_retries=int(max_retries),
        created_at=float(created),
        expires_at=float(expires),
        started_at=None if started is None else float(started),
        finished_at=None if finished is None else float(finished),
        due_at=None if due is None else float(due),
        error=JobError(code.decode(), message.decode()) if shows_error else None,
        result=result[0] if result else None,
        position=position,
    )
