"""Two replicas with one Redis: any answers for any job, and they are restarted one after the other under load."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_observability import eventually
from tests.jobs.redis_server import PrivateRedis, running_redis
from tests.server import ROOT, Server, serving

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}


class Balancer:
    """A stub of a balancer: sends each request to a ready replica, and elsewhere when a connection is refused.

    A connection that breaks later is a lost request: `outcomes` counts it as such.
    """

    def __init__(self, replicas: dict[str, Server]) -> None:
        self.replicas = replicas
        self.outcomes: Counter[str] = Counter()

    def post(self, path: str) -> None:
        for replica in random.sample(replicas := list(self.replicas.values()), len(replicas)):
            try:
                response = httpx.post(replica.url + path, json=ROW, timeout=30)
            except httpx.ConnectError:
                continue
            except httpx.TransportError as error:
                self.outcomes[f"lost: {error!r}"] += 1
                return
            self.outcomes[str(response.status_code)] += 1
            return
        self.outcomes["no replica"] += 1


@contextmanager
def load(balancer: Balancer, threads: int) -> Iterator[None]:
    """Post to all routes of iris until the block ends."""
    stop = threading.Event()

    def worker() -> None:
        while not stop.is_set():
            for path in ("/iris/predict", "/iris/predict/batched"):
                balancer.post(path)
                stop.wait(0.02)  # leaves the replica that starts meanwhile some of the processor

    workers = [threading.Thread(target=worker) for _ in range(threads)]
    for thread in workers:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in workers:
            thread.join()


def answered(balancer: Balancer, requests: int) -> None:
    """Wait until so many more have been answered."""
    goal = balancer.outcomes["200"] + requests
    assert eventually(lambda: balancer.outcomes["200"] >= goal), balancer.outcomes


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of every server and worker. Where there is no Redis, servers can still be restarted."""
    jobs = {}
    if shutil.which("redis-server"):
        jobs = {
            "SERVING__JOBS__URL": request.getfixturevalue("redis").url,
            "SERVING__JOBS__BACKOFF_SECONDS": "[0.1]",
        }
    return {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__SERVER__WORKERS": "2", **jobs}


@pytest.fixture(scope="module")
def replicas(model_store: Path, environment: dict[str, str]) -> Iterator[tuple[Server, Server]]:  # noqa: ARG001
    """Two, until the rolling restart ends them: that test is the last with them."""
    with serving(wait=False, **environment) as first, serving(**environment) as second:
        first.wait_until_ready()
        yield first, second


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
    redis: PrivateRedis, replicas: tuple[Server, Server], environment: dict[str, str]
) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(httpx.Client(base_url=server.url, timeout=60)) for server in replicas)
        # one key at both: one job
        key = {"Idempotency-Key": "both"}
        queued = first.post("/iris/jobs", json=ROW, headers=key)
        assert queued.status_code == 202
        job = queued.json()["job_id"]
        assert second.post("/iris/jobs", json=ROW, headers=key).json()["job_id"] == job
        assert second.get(f"/jobs/{job}").json()["position"] == 0
        # cancelled at one, gone for the other
        other = second.post("/iris/jobs", json=ROW).json()["job_id"]
        assert first.delete(f"/jobs/{other}").json()["status"] == "cancelled"
        assert second.get(f"/jobs/{other}").json()["status"] == "cancelled"
        # without their Redis jobs are refused, predictions go on, and what was accepted is there afterwards
        redis.kill()
        away = first.post("/iris/jobs", json=ROW)
        assert (away.status_code, away.json()["error"]["code"]) == (503, "unavailable")
        assert int(away.headers["Retry-After"]) >= 1
        expected = second.post("/iris/predict", json=ROW)
        assert expected.status_code == 200
        redis.start()
        stack.enter_context(worker(environment))
        assert eventually(lambda: second.get(f"/jobs/{job}?wait=5").json().get("status") == "succeeded")
        done = second.get(f"/jobs/{job}").json()
        assert (done["status"], done["attempts"]) == ("succeeded", 1)
        assert done["result"] == expected.json()
        assert first.get(f"/jobs/{job}").json() == done
        assert first.get("/jobs/stats").json()["models"]["iris"]["counts"]["succeeded"] == 1


def test_a_rolling_restart_loses_no_accepted_request(
    replicas: tuple[Server, Server], environment: dict[str, str]
) -> None:
    old, other = replicas
    with ExitStack() as later:
        balancer = Balancer({"old": old, "other": other})
        with load(balancer, threads=4):
            answered(balancer, 50)
            # The balancer is not told: it finds out from refused connections.
            assert old.stop() == 0
            balancer.replicas["new"] = later.enter_context(serving(**environment))
            del balancer.replicas["old"]
            answered(balancer, 20)  # nobody still goes by the list without the new one
            assert other.stop() == 0
            del balancer.replicas["other"]
            answered(balancer, 50)
        assert set(balancer.outcomes) == {"200"}, balancer.outcomes
