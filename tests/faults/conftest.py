"""A scene for each test, on both kinds of store.

`FAULTS_LEASE_SECONDS=15` measures with the lease of the settings, `FAULTS_ALL_SEEDS=1` runs every round of chaos on
both stores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene
from tests.jobs.conftest import store_url
from tests.jobs.redis_server import private_redis, redis_server

__all__ = ["private_redis", "redis_server", "store_url"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def scene(tmp_path: Path, store_url: str) -> AsyncIterator[Scene]:
    async with Scene(tmp_path, store_url) as scene:
        yield scene
