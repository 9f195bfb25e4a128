"""What a server process does at its start."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.bento.process import ServerProcess
from serving.settings import Settings
from tests.process_state import kept_metrics, kept_process


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    with kept_metrics(), kept_process():
        yield


def _start(drains_after: str | None = None) -> ServerProcess:
    """A runner that has started, or an API worker."""
    process = ServerProcess(Settings(), runner_name="api")

    async def start() -> None:
        if drains_after is None:
            process.start_api("model_serving")
        else:
            process.start_runner(drains_after=drains_after)

    asyncio.run(start())
    return process


@pytest.mark.parametrize("drains_after", [None, "no-such-service"])
def test_it_takes_over_stop_signals_and_logging(drains_after: str | None) -> None:
    before = signal.getsignal(signal.SIGINT)
    process = _start(drains_after)
    assert signal.getsignal(signal.SIGINT) is not before
    assert not process.drain.started
    assert process.drain._limit_seconds == Settings().server.drain_seconds
    assert logging.getLogger("serving").level == logging.INFO


def test_a_runner_drains_after_the_service_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def workers_ended(name: str) -> object:
        asked.append(name)
        return lambda: True

    monkeypatch.setattr("serving.bento.process.api_workers_ended", workers_ended)
    _start("model_serving")
    assert asked == ["model_serving"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Of the tests' own: what some descriptor is in this process depends on the tests before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_an_api_worker_refuses_connections_on_the_socket_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listener: socket.socket
) -> None:
    asked = []

    def refuse(*arguments: object) -> object:
        asked.append(arguments)
        return lambda: True

    monkeypatch.setattr("serving.bento.process.refuse_connections", refuse)
    monkeypatch.setattr("sys.argv", ["worker", "service", "--fd", str(listener.fileno()), "--worker-id", "1"])
    # As if BentoML's supervisor had begun this process: a directory that is the server's own.
    notes = tmp_path / "serving_metrics" / "1"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(notes))
    _start()
    assert asked == [("model_serving", listener.fileno(), notes)]


@pytest.mark.parametrize("given", [False, True])
def test_without_a_supervisor_there_is_nothing_to_refuse_on(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, given: bool
) -> None:
    monkeypatch.setattr("serving.bento.process.refuse_connections", lambda *_: pytest.fail("there is no socket"))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr("sys.argv", ["worker", "--fd", str(listener.fileno())] if given else ["pytest"])
    assert _start().drain._refuse()


@pytest.mark.parametrize("freeze", [True, False])
def test_what_start_up_allocated_is_frozen_where_settings_say_so(freeze: bool) -> None:
    before = gc.get_threshold()
    ServerProcess(Settings(server={"freeze_gc": freeze}), runner_name="api").loaded()
    assert (gc.get_freeze_count() > 1000) == freeze
    assert (gc.get_threshold() != before) == freeze
    assert gc.isenabled(), "cycles of requests still have to be freed"
