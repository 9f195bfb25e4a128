"""Stores for the tests: each test has data of its own, that several stores may be opened on."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from serving.jobs.store import JobStore, open_store
from serving.settings.jobs import JobsSettings
from tests.jobs.redis_server import GivenRedis, private_redis, redis_server

__all__ = ["private_redis", "redis_server"]

OpenStore = Callable[..., Awaitable[JobStore]]

# Leases are long, so that a busy machine takes none away from a test that is not about leases.
SETTINGS: dict[str, Any] = {"lease_seconds": 60.0, "backoff_seconds": [0.05, 0.1]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of both kinds of store, one after the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    server: GivenRedis = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
async def opened(store_url: str) -> AsyncIterator[OpenStore]:
    """Opens another store on the test's data, as another process would, with changed settings if wanted."""
    namespace = f"test-{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack:

        async def another(**changes: Any) -> JobStore:
            store = open_store(JobsSettings(**SETTINGS | {"url": store_url, "namespace": namespace} | changes))
            stack.push_async_callback(store.close)
            await store.open()
            return store

        yield another


@pytest.fixture
async def store(opened: OpenStore) -> JobStore:
    return await opened()


@pytest.fixture
async def second_store(opened: OpenStore, store: JobStore) -> JobStore:  # noqa: ARG001 - it is the second
    return await opened()


@pytest.fixture
async def hasty_store(opened: OpenStore) -> JobStore:
    """Its leases are the shortest."""
    return await opened(lease_seconds=0.5)
