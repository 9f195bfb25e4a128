from __future__ import annotations

import pytest

from tests.jobs.redis_server import redis_server

__all__ = ["redis_server"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
