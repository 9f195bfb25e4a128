"""Starting a server for a measurement, looking at it, and ending it whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
POLL_SECONDS = 0.01
TERM_GRACE = 15.0
"""Seconds between SIGTERM and SIGKILL."""
MEGABYTE = 1e6

Roles = Callable[[psutil.Process], list[psutil.Process]]
"""From the process that was started to those that answer requests."""


class ServerError(Exception):
    """A server did not start, or gave a wrong answer."""


def itself(started: psutil.Process) -> list[psutil.Process]:
    return [started]


def children(started: psutil.Process) -> list[psutil.Process]:
    return list(started.children())


def bentoml_worker(service: str) -> Roles:
    """The API workers of one BentoML service, which are children of `bentoml serve`."""

    def workers(started: psutil.Process) -> list[psutil.Process]:
        found = []
        for process in started.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if "_bentoml_impl.worker.service" in command and service in command:
                    found.append(process)
        return found

    return workers


@dataclass(frozen=True, slots=True)
class Server:
    """How one server is started and where it answers; `command` takes the port."""

    name: str
    title: str
    command: Callable[[int], Sequence[str | Path]]
    path: str
    workers: Roles = itself
    environment: Mapping[str, str] = field(default_factory=dict)
    start_limit: float = 60.0
    """Seconds that it may take to get ready."""
    peer: str = ""
    """The environment that it is installed in; this service's own when empty."""
    ready_path: str = "/readyz"
    """Answers 200 once it is ready."""
    root: Path = ROOT
    """The checkout that it runs in."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready; `start_seconds` is from the start of its process to the first 200 of `ready_path`."""

    server: Server
    port: int
    start_seconds: float
    process: psutil.Process

    def url(self, path: str | None = None) -> str:
        return f"http://{HOST}:{self.port}{path or self.server.path}"

    def worker_rss_mb(self) -> float:
        """Resident memory of one process that answers requests, in MB (10⁶ bytes); of several the largest.

        Raises:
            ServerError: none is to be found.
        """
        sizes = [process.memory_info().rss for process in self.server.workers(self.process)]
        if not sizes:
            raise ServerError(f"{self.server.name}: no worker process found")
        return float(max(sizes)) / MEGABYTE

    def total_rss_mb(self) -> float:
        """Resident memory of all its processes in MB, pages that they share counted once for each."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / MEGABYTE

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body of one request.

        Raises:
            ServerError: there is no answer.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, path, body=body or None, headers=dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.server.name}: no answer to {method} {path}: {error!r}") from error
        finally:
            connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: Server) -> Iterator[Running]:
    """The server, ready; it and all that it started are gone afterwards. What it writes goes to a file.

    Raises:
        ServerError: it ended or was not ready in time; the message has the end of what it wrote.
    """
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(server.root), "BENTOML_DO_NOT_TRACK": "True", **server.environment}
    with tempfile.TemporaryFile(prefix=f"{server.name}-") as log:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                [str(part) for part in server.command(port)],
                cwd=server.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerError(f"{server.name} cannot be started: {error}") from error
        try:
            problem = _wait_until_ready(process, port, server.ready_path, began + server.start_limit)
            elapsed = time.perf_counter() - began
            if problem:
                raise ServerError(f"{server.name} {problem}; it wrote:\n{_tail(log)}")
            yield Running(server, port, elapsed, psutil.Process(process.pid))
        finally:
            end(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, deadline: float) -> str:
    """Empty when it is ready, else what went wrong."""
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            return f"ended with {process.returncode} before it was ready"
        connection = http.client.HTTPConnection(HOST, port, timeout=1)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return ""
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_SECONDS)
    return "was not ready in time"


def end(process: subprocess.Popen[bytes], grace: float = TERM_GRACE) -> None:
    """SIGTERM to the process group, SIGKILL after `grace` seconds, and then to any descendant that is left.

    BentoML's workers are in sessions of their own and would outlive the group, hence the descendants.
    """
    descendants: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        descendants = psutil.Process(process.pid).children(recursive=True)
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()
        _, left = psutil.wait_procs(descendants, timeout=1)
        for descendant in left:
            with contextlib.suppress(psutil.Error):
                descendant.kill()  # psutil compares the start time: never a stranger with a reused id


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # the leader's id is the group's; the group is there as long as one member is, the leader reaped or not
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _tail(log: BinaryIO, size: int = 4000) -> str:
    end_of_file = log.seek(0, os.SEEK_END)
    log.seek(max(0, end_of_file - size))
    return log.read().decode(errors="replace").strip()
