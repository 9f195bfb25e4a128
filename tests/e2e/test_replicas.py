"""Two replicas behind a balancer, restarted one after the other under load."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.server import Server, serving

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
    while balancer.outcomes["200"] < goal:
        time.sleep(0.01)


@pytest.mark.usefixtures("model_store")
def test_a_rolling_restart_loses_no_accepted_request() -> None:
    iris = {"SERVING__INCEPTION_V3__ENABLED": "false", "SERVING__SERVING__WORKERS": "2"}
    with serving(**iris) as old, serving(**iris) as other, ExitStack() as later:
        balancer = Balancer({"old": old, "other": other})
        with load(balancer, threads=4):
            answered(balancer, 50)
            # The balancer is not told: it finds out from refused connections.
            assert old.stop() == 0
            balancer.replicas["new"] = later.enter_context(serving(**iris))
            del balancer.replicas["old"]
            answered(balancer, 20)  # nobody still goes by the list without the new one
            assert other.stop() == 0
            del balancer.replicas["other"]
            answered(balancer, 50)
        assert set(balancer.outcomes) == {"200"}, balancer.outcomes


@pytest.mark.usefixtures("model_store")
def test_a_draining_server_refuses_connections_and_finishes_requests(photo: bytes) -> None:
    with serving(SERVING__SERVING__WORKERS="2") as server:
        body = (
            b"POST /inception_v3/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
            % len(photo)
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            # A request that is still arriving when the signal comes has been accepted.
            slow.sendall(body + photo[:100])
            httpx.get(f"{server.url}/livez").raise_for_status()
            server.process.terminate()
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.02)
            else:
                raise AssertionError("connections are still accepted")
            assert server.process.poll() is None
            slow.sendall(photo[100:])
            assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0
