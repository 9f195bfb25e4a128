"""From SIGTERM to the exit."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from serving.bento.drain import Drain, api_workers_ended
from tests.process_state import kept_signals


class Server:
    """Stands for uvicorn: notes the signals that it is handed."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.told.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with kept_signals():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle)
        yield server


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_api_worker_stops_at_once(server: Server, number: signal.Signals) -> None:
    async def scenario() -> None:
        drain = Drain(limit_seconds=60)
        drain.install()
        assert not drain.started
        os.kill(os.getpid(), number)
        assert drain.started
        assert server.told == [number]

    run(scenario)


def test_a_second_signal_does_not_cut_requests_off(server: Server) -> None:
    async def scenario() -> None:
        drain = Drain(limit_seconds=60, wait_for=lambda: False)
        drain.install()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
        assert drain.started
        assert server.told == []

    run(scenario)


def test_those_who_want_to_know_are_told_once(server: Server) -> None:  # noqa: ARG001 - its handlers are taken over
    async def scenario() -> None:
        told: list[asyncio.AbstractEventLoop] = []
        drain = Drain(limit_seconds=60)
        drain.on_start.append(lambda: told.append(asyncio.get_running_loop()))
        drain.install()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: bool(told))
        await asyncio.sleep(0.01)
        assert told == [asyncio.get_running_loop()]

    run(scenario)


def test_a_runner_waits_for_those_that_need_it(server: Server) -> None:
    needed = True

    async def scenario() -> None:
        nonlocal needed
        drain = Drain(limit_seconds=60, wait_for=lambda: not needed)
        drain.install()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.15)
        assert drain.started
        assert server.told == []
        needed = False
        await until(lambda: bool(server.told))
        assert server.told == [signal.SIGTERM]

    run(scenario)


def test_after_the_limit_what_is_open_is_dropped(server: Server) -> None:
    async def scenario() -> None:
        Drain(limit_seconds=0.1, wait_for=lambda: False).install()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(server.told) == 2)
        assert server.told == [signal.SIGTERM, signal.SIGINT]

    run(scenario)


def test_a_worker_whose_requests_never_end_is_stopped_at_the_limit(server: Server) -> None:
    async def scenario() -> None:
        Drain(limit_seconds=0.1).install()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: signal.SIGINT in server.told)

    run(scenario)


def test_connections_are_refused_once_uvicorn_has_been_told(server: Server) -> None:
    asked: list[list[int]] = []

    def refuse() -> bool:
        asked.append(server.told[:])
        return len(asked) == 3

    async def scenario() -> None:
        Drain(limit_seconds=60, refuse=refuse).install()
        await asyncio.sleep(0.1)
        assert asked == []
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(asked) == 3)
        await asyncio.sleep(0.15)
        assert asked == [[signal.SIGTERM, signal.SIGTERM]] * 3, "asked until it is done, and not again"

    run(scenario)


def test_what_is_open_is_dropped_at_the_limit_even_if_a_sibling_does_not_drain(server: Server) -> None:
    async def scenario() -> None:
        Drain(limit_seconds=0.1, refuse=lambda: False).install()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: signal.SIGINT in server.told)

    run(scenario)


def test_an_ignored_signal_stays_ignored() -> None:
    async def scenario() -> None:
        with kept_signals():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            Drain(limit_seconds=60).install()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    run(scenario)


PARENT = """
import os, subprocess, sys
sleep = "import sys; sys.stdin.read()"
others = [
    subprocess.Popen([sys.executable, "-c", sleep, "--service-name", name], stdin=subprocess.PIPE)
    for name in ("api", "another")
]
runner = subprocess.Popen([sys.executable, "-c", {runner!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

def ask():
    runner.stdin.write("?\\n")
    runner.stdin.flush()
    return runner.stdout.readline().strip()

print(ask())
others[0].kill()
os.waitid(os.P_PID, others[0].pid, os.WEXITED | os.WNOWAIT)
print(ask())   # a zombie, until it is waited for
others[0].wait()
print(ask())
for each in (*others, runner):
    each.kill()
    each.wait()
"""
RUNNER = """
import sys
from serving.bento.drain import api_workers_ended
ended = api_workers_ended("api")
for _ in sys.stdin:
    print(ended(), flush=True)
"""


def test_siblings_are_found_by_the_service_they_serve() -> None:
    parent = subprocess.run(
        [sys.executable, "-c", PARENT.format(runner=RUNNER)], capture_output=True, text=True, timeout=60, check=True
    )
    assert parent.stdout.split() == ["False", "True", "True"]


def test_without_siblings_there_is_nothing_to_wait_for() -> None:
    assert api_workers_ended("no-such-service")()


WORKER = """
import os, sys
from pathlib import Path
from serving.bento.drain import refuse_connections
descriptor, notes = int(sys.argv[1]), Path(sys.argv[2])
refuse = refuse_connections("api", descriptor, notes)
os.close(descriptor)  # as uvicorn does when it stops
print("ready", flush=True)
for _ in sys.stdin:
    print(refuse(), flush=True)
"""


class Workers:
    """Processes of one server that share a listening socket."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._running: list[subprocess.Popen[str]] = []

    def start(self, service: str = "api") -> subprocess.Popen[str]:
        descriptor = self.listener.fileno()
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(descriptor), str(self._notes), "--service-name", service],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[descriptor],
        )
        self._running.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    def refuses(self, worker: subprocess.Popen[str]) -> bool:
        """What the worker says when it is asked to refuse."""
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("?\n")
        worker.stdin.flush()
        answer = worker.stdout.readline().strip()
        assert answer in ("True", "False"), "it has failed"
        return answer == "True"

    def accepted(self) -> bool:
        """Whether a client can connect."""
        try:
            socket.create_connection(self.listener.getsockname(), timeout=60).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self) -> None:
        for worker in self._running:
            worker.kill()
            worker.communicate()
        self.listener.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    workers.stop()


def test_new_connections_are_refused_once_all_workers_drain(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    workers.start("another")
    assert not workers.refuses(first), "the second still answers"
    assert not workers.refuses(first)
    assert workers.accepted()
    assert workers.refuses(second)
    assert not workers.accepted()
    assert workers.refuses(first), "that a sibling was quicker is no error"


def test_a_worker_that_has_ended_is_not_waited_for(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    assert not workers.refuses(first)
    second.kill()
    second.wait()
    assert workers.refuses(first)
    assert not workers.accepted()


def test_a_worker_that_replaces_one_that_drains_is_not_taken_for_it(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    assert not workers.refuses(first)
    first.kill()
    first.wait()
    workers.start()
    assert not workers.refuses(second), "the new one still answers"
    assert workers.accepted()


def test_what_was_accepted_before_goes_on(workers: Workers) -> None:
    worker = workers.start()
    with socket.create_connection(workers.listener.getsockname(), timeout=60) as client:
        connection, _ = workers.listener.accept()
        assert workers.refuses(worker)
        with connection:
            connection.sendall(b"answer")
        assert client.recv(10) == b"answer"
