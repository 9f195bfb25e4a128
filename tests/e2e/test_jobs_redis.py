"""Two servers and a worker on one Redis: any server answers for any job, and the worker may be anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.jobs.redis_server import PrivateRedis, private_redis
from tests.server import ROOT, Server, serving

__all__ = ["private_redis"]

BODY = {"data": [[5.1, 3.5, 1.4, 0.2]]}

pytestmark = pytest.mark.slow


@contextmanager
def worker(environment: dict[str, str]) -> Iterator[None]:
    """`serving worker` until the block ends; then it has to drain and leave with 0."""
    with subprocess.Popen(
        [sys.executable, "-m", "serving", "worker", "--model", "iris", "--port", "0"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, output


def test_any_server_answers_for_any_job(
    model_store: Path,  # noqa: ARG001 - it has to be filled
    private_redis: Callable[[], PrivateRedis],
) -> None:
    redis = private_redis()
    environment = {
        "SERVING__JOBS__URL": redis.url,
        "SERVING__INCEPTION_V3__ENABLED": "false",
        "SERVING__JOBS__BACKOFF_SECONDS": "[0.1]",
    }
    with ExitStack() as stack:
        servers: list[Server] = [stack.enter_context(serving(**environment)) for _ in range(2)]
        first, second = (stack.enter_context(httpx.Client(base_url=server.url, timeout=60)) for server in servers)
        # one key at both: one job
        key = {"Idempotency-Key": "both"}
        queued = first.post("/iris/jobs", json=BODY, headers=key)
        assert queued.status_code == 202
        job = queued.json()["job_id"]
        assert second.post("/iris/jobs", json=BODY, headers=key).json()["job_id"] == job
        assert second.get(f"/jobs/{job}").json()["position"] == 0
        # cancelled at one, gone for the other
        other = second.post("/iris/jobs", json=BODY).json()["job_id"]
        assert first.delete(f"/jobs/{other}").json()["status"] == "cancelled"
        assert second.get(f"/jobs/{other}").json()["status"] == "cancelled"
        # without their Redis jobs are refused, predictions go on, and what was accepted is there afterwards
        redis.kill()
        away = first.post("/iris/jobs", json=BODY)
        assert (away.status_code, away.json()["error"]["code"]) == (503, "unavailable")
        assert int(away.headers["Retry-After"]) >= 1
        expected = second.post("/iris/predict", json=BODY)
        assert expected.status_code == 200
        redis.start()
        stack.enter_context(worker(environment))
        done = second.get(f"/jobs/{job}?wait=30").json()
        assert (done["status"], done["attempts"]) == ("succeeded", 1)
        assert done["result"] == expected.json()
        assert first.get(f"/jobs/{job}").json() == done
        assert first.get("/jobs/stats").json()["models"]["iris"]["counts"]["succeeded"] == 1
