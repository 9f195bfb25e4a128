"""Starting, stopping, killing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_observability import eventually, total
from tests.server import BENTOML, ROOT, Server, free_port, serving

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}

pytestmark = pytest.mark.usefixtures("model_store")


def wait_for_work(server: Server, requests: int) -> None:
    assert eventually(lambda: in_progress(server) >= requests)


def in_progress(server: Server) -> float:
    return total(server, "bentoml_service_request_in_progress", endpoint="/inception_v3/predict")


def test_a_drain_finishes_what_was_accepted(photo: bytes) -> None:
    """Every request that the server holds when the signal comes is answered, and the exit code is 0."""

    def ask(_: int) -> int:
        return httpx.post(f"{server.url}/inception_v3/predict", files={"image": photo}, timeout=60).status_code

    with serving() as server, ThreadPoolExecutor(16) as threads:
        answers: list[Future[int]] = [threads.submit(ask, number) for number in range(16)]
        wait_for_work(server, 8)
        held = in_progress(server)
        assert server.stop() == 0
        statuses = [answer.result() for answer in answers if answer.exception() is None]
        # Those that had not been accepted may have been refused; of those that had, none was lost.
        assert len(statuses) >= held
        assert set(statuses) == {200}
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/readyz")
        assert "Traceback" not in server.log()


def test_a_killed_worker_is_replaced_and_forgotten(photo: bytes) -> None:
    """After SIGKILL of the API worker, a new one answers and what died with the old one is not in progress."""
    with serving() as server, ThreadPoolExecutor(4) as threads:
        answers = [
            threads.submit(httpx.post, f"{server.url}/inception_v3/predict", files={"image": photo}, timeout=60)
            for _ in range(4)
        ]
        wait_for_work(server, 2)
        (worker,) = server.workers("model_serving")
        worker.kill()
        assert any(isinstance(answer.exception(), httpx.TransportError) for answer in answers)
        assert eventually(lambda: [new.pid for new in server.workers("model_serving")] not in ([], [worker.pid]))
        server.wait_until_ready()
        assert in_progress(server) == 0
        assert httpx.post(f"{server.url}/iris/predict", json=ROW).status_code == 200


def test_a_killed_runner_is_a_503_until_it_is_back() -> None:
    """In a container, where BentoML leaves restarting to the engine, which sees the supervisor only."""
    with serving(SERVING__INCEPTION_V3__ENABLED="false", BENTOML_CONTAINERIZED="true") as server:
        (worker,) = server.workers("model_serving")
        (runner,) = server.workers("iris_runner")
        os.kill(runner.pid, signal.SIGKILL)
        refused = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            response = httpx.post(f"{server.url}/iris/predict/batched", json=ROW, timeout=60)
            if response.status_code == 200 and refused:
                break
            if response.status_code != 200:
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "unavailable"
                assert int(response.headers["Retry-After"]) >= 1
                assert response.elapsed.total_seconds() < 1  # told at once, not after waiting for the runner
                refused += 1
            # The route that needs no runner is not affected.
            assert httpx.post(f"{server.url}/iris/predict", json=ROW).status_code == 200
        assert response.status_code == 200
        assert refused
        assert server.workers("model_serving") == [worker]
        assert "Traceback" not in server.log()


def test_two_servers_on_one_machine_do_not_touch_each_other() -> None:
    """BentoML shares one metrics directory between the servers of a BENTOML_HOME and empties it at each start."""
    with serving(SERVING__INCEPTION_V3__ENABLED="false") as first:
        for _ in range(5):
            httpx.post(f"{first.url}/iris/predict", json=ROW).raise_for_status()
        with serving(SERVING__INCEPTION_V3__ENABLED="false") as second:
            httpx.post(f"{second.url}/iris/predict", json=ROW).raise_for_status()
            for server, requests in ((first, 5), (second, 1)):
                assert total(server, "bentoml_service_request_total", endpoint="/iris/predict") == requests
        assert total(first, "bentoml_service_request_total", endpoint="/iris/predict") == 5


def test_a_model_that_is_switched_off_has_no_routes_and_no_process() -> None:
    with serving(SERVING__INCEPTION_V3__ENABLED="false") as server:
        assert httpx.get(f"{server.url}/inception_v3/metadata").status_code == 404
        assert server.workers("inception_v3_runner") == []
        assert not [path for path in httpx.get(f"{server.url}/docs.json").json()["paths"] if "inception" in path]


def serve_and_fail(**settings: str) -> tuple[int, str]:
    result = subprocess.run(
        [BENTOML, "serve", "service:svc", "--port", str(free_port())],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def test_a_missing_model_is_named_before_anything_starts(tmp_path: Path) -> None:
    code, output = serve_and_fail(BENTOML_HOME=str(tmp_path))
    assert code != 0
    assert "is not in the model store" in output
    assert "python -m train" in output
    assert "Traceback" not in output


def test_a_misspelt_setting_is_an_error() -> None:
    code, output = serve_and_fail(SERVING__IRIS__MAX_ROW="3")
    assert code != 0
    assert "iris.max_row" in output
