"""Jobs for the tests of the stores, and what is done with them again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from serving.jobs.job import Claimed, Job, JobError, NewJob, new_job_id
from serving.jobs.store import JobStore

MODEL = "model"
LONG_SECONDS = 60
BROKEN = JobError("internal_error", "the engine raised")


def new_job(**changes: Any) -> NewJob:
    values = {
        "id": new_job_id(),
        "model": MODEL,
        "payload": b"payload",
        "parameters": '{"top": 5}',
        "max_retries": 2,
        "ttl_seconds": 300.0,
    }
    return NewJob(**values | changes)


async def submit(store: JobStore, **changes: Any) -> Job:
    return (await store.submit(new_job(**changes))).job


async def claim_one(store: JobStore, owner: str = "worker", model: str = MODEL) -> Claimed:
    """The one job that is due now."""
    (claimed,) = await store.claim(model, owner, limit=1)
    return claimed


async def next_claim(store: JobStore, owner: str = "worker", *, limit: int = 1, model: str = MODEL) -> list[Claimed]:
    """What can be claimed first, now or later: after a backoff or a lease."""
    deadline = time.monotonic() + LONG_SECONDS
    while time.monotonic() < deadline:
        if claimed := await store.claim(model, owner, limit=limit):
            return claimed
        await store.wait_for_work(model, 1)
    raise AssertionError("nothing to claim")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds: for what only the passing of time changes."""
    deadline = time.monotonic() + LONG_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)
