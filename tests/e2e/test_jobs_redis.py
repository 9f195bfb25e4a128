"""`bentoml serve` with a Redis that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_observability import eventually
from tests.jobs.redis_server import PrivateRedis, private_redis
from tests.server import serving

__all__ = ["private_redis"]

pytestmark = pytest.mark.usefixtures("model_store")


def test_a_replica_is_named_and_may_become_a_master(private_redis: Callable[..., PrivateRedis]) -> None:
    redis = private_redis("--replicaof", "127.0.0.1", "1")
    with serving(SERVING__JOBS__URL=redis.url) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(2):
            refused = client.post("/iris/jobs", json={"data": [[5.1, 3.5, 1.4, 0.2]]})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert refused.headers["Retry-After"] == "1"
        log = server.log()
        workers = len(server.workers("model_serving"))
        assert log.count("it is a replica, which takes no writes (READONLY)") == workers
        assert "Traceback" not in log
        redis.ask("REPLICAOF", "NO", "ONE")
        again = {"json": {"data": [[5.1, 3.5, 1.4, 0.2]]}}
        assert eventually(lambda: client.post("/iris/jobs", **again).status_code == 202)


def test_a_file_that_is_missing_ends_the_server_with_its_name(tmp_path: Path) -> None:
    url = f"rediss://:secret@127.0.0.1:1/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
    with serving(wait=False, SERVING__JOBS__URL=url) as server:
        assert server.process.wait(60) != 0
        log = server.log()
    assert f"jobs.url: ssl_ca_certs: {tmp_path / 'ca.pem'} is not there or cannot be read" in log
    assert "Traceback" not in log
    assert "secret" not in log
