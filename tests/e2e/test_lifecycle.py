"""Starting, stopping, killing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.e2e.test_observability import eventually, total
from tests.server import BENTOML, ROOT, Server, free_port, serving

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}
IRIS = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false"}

pytestmark = pytest.mark.usefixtures("model_store")


@pytest.fixture(scope="module")
def two_workers(model_store: Path) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    """With two API workers; the drain ends it, so that test is the last with it.

    On a slow machine it has to be patient: some seconds go by before the test has sent all.
    """
    patience = {"SERVING__SERVER__DRAIN_SECONDS": "150", "SERVING__SERVER__REQUEST_TIMEOUT_SECONDS": "150"}
    with serving(SERVING__SERVER__WORKERS="2", **patience) as running:
        yield running


@pytest.fixture(scope="module")
def contained(model_store: Path) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    """With iris alone, as in a container, where BentoML leaves restarting to the engine, which sees the supervisor."""
    with serving(**IRIS, BENTOML_CONTAINERIZED="true") as running:
        yield running


class Arriving:
    """Requests for the label of `photo` whose bodies have not come as a whole: the server holds them."""

    def __init__(self, server: Server, photo: bytes, count: int) -> None:
        self._photo = photo
        self._stack = ExitStack()
        self.connections: list[socket.socket] = []
        head = (
            b"POST /inception_v3/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(photo)
        )
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            self.connections.append(self._stack.enter_context(connection))
            connection.sendall(head + photo[:100])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def answers(self) -> list[bytes]:
        """Of each connection, to its end; what had been missing is sent before."""
        for connection in self.connections:
            connection.sendall(self._photo[100:])
        return [b"".join(iter(partial(connection.recv, 65536), b"")) for connection in self.connections]


def in_progress(server: Server) -> float:
    return total(server, "bentoml_service_request_in_progress", endpoint="/inception_v3/predict")


def test_killed_workers_are_replaced_and_forgotten(two_workers: Server, photo: bytes) -> None:
    """After SIGKILL of the API workers, new ones answer and what died with the old ones is not in progress."""
    server = two_workers
    with Arriving(server, photo, 8) as requests:
        assert eventually(lambda: in_progress(server) == 8)
        killed = server.workers("model_serving")
        assert len(killed) == 2
        for worker in killed:
            worker.kill()

        def replaced() -> bool:
            workers = {worker.pid for worker in server.workers("model_serving")}
            return len(workers) == 2 and workers.isdisjoint(worker.pid for worker in killed)

        assert eventually(replaced)
        for connection in requests.connections:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b"", "it was not held by a worker that was killed"
    server.wait_until_ready()
    assert in_progress(server) == 0
    assert httpx.post(f"{server.url}/iris/predict", json=ROW, timeout=60).status_code == 200


def test_a_drain_finishes_what_was_accepted_and_refuses_connections(two_workers: Server, photo: bytes) -> None:
    """Every request that the server holds when the signal comes is answered, and the exit code is 0."""
    server = two_workers

    def ask(_: int) -> int:
        return httpx.post(f"{server.url}/inception_v3/predict", files={"image": photo}, timeout=60).status_code

    with Arriving(server, photo, 8) as requests, ThreadPoolExecutor(8) as threads:
        assert eventually(lambda: in_progress(server) == 8)
        # Some of these are being predicted when the signal comes, some have not been accepted and may be refused.
        others = [threads.submit(ask, number) for number in range(8)]
        assert eventually(lambda: in_progress(server) > 8 or any(other.done() for other in others))
        server.process.terminate()
        assert eventually(lambda: refuses(server)), "connections are still accepted"
        assert server.process.poll() is None, "it has not waited for the requests that arrive"
        assert [answer[:12] for answer in requests.answers()] == [b"HTTP/1.1 200"] * 8
        assert {other.result() for other in others if other.exception() is None} <= {200}
    assert server.process.wait(160) == 0
    assert "Traceback" not in server.log()


def refuses(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_model_that_is_switched_off_has_no_routes_and_no_process(contained: Server) -> None:
    assert httpx.get(f"{contained.url}/inception_v3/metadata", timeout=60).status_code == 404
    assert contained.workers("inception_v3_runner") == []
    assert not [
        path for path in httpx.get(f"{contained.url}/docs.json", timeout=60).json()["paths"] if "inception" in path
    ]


def test_a_killed_runner_is_a_503_until_it_is_back(contained: Server) -> None:
    server = contained
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
            refused += 1
        # The route that needs no runner is not affected.
        assert httpx.post(f"{server.url}/iris/predict", json=ROW, timeout=60).status_code == 200
        time.sleep(0.05)
    assert response.status_code == 200
    assert refused >= 2, "it is told at once, not after waiting for the runner"
    assert server.workers("model_serving") == [worker]
    assert "Traceback" not in server.log()


def test_two_servers_on_one_machine_do_not_touch_each_other(contained: Server) -> None:
    """BentoML shares one metrics directory between the servers of a BENTOML_HOME and empties it at each start."""

    def requests(server: Server) -> float:
        return total(server, "bentoml_service_request_total", endpoint="/iris/predict")

    before = requests(contained)
    for _ in range(5):
        httpx.post(f"{contained.url}/iris/predict", json=ROW, timeout=60).raise_for_status()
    with serving(**IRIS) as second:
        httpx.post(f"{second.url}/iris/predict", json=ROW, timeout=60).raise_for_status()
        assert (requests(contained), requests(second)) == (before + 5, 1)
    assert requests(contained) == before + 5


def serve_and_fail(*, port: int | None = None, **settings: str) -> tuple[int, str]:
    result = subprocess.run(
        [BENTOML, "serve", "service:svc", "--port", str(port or free_port())],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def test_a_second_server_is_told_that_the_port_is_in_use(contained: Server) -> None:
    code, output = serve_and_fail(port=contained.port)
    assert code != 0
    (line,) = [line for line in output.splitlines() if "is in use" in line]
    assert f"http: port {contained.port} on 0.0.0.0 is in use; set another one with --port" in line
    assert "Traceback" not in output


def test_a_missing_model_is_named_before_anything_starts(tmp_path: Path) -> None:
    code, output = serve_and_fail(BENTOML_HOME=str(tmp_path))
    assert code != 0
    assert "is not in the model store" in output
    assert "python -m train" in output
    assert "Traceback" not in output
