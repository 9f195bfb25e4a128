"""The real `bentoml serve`, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
BENTOML = Path(sys.executable).parent / "bentoml"
NO_PROXY_THERE = {
    name: "" if "no_" in name.lower() else "http://127.0.0.1:9"
    for lower in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (lower, lower.upper())
}
"""An environment that names a proxy, at whose address nobody listens."""
START_SECONDS = 180
STOP_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A running server: `url`, its log, its processes, and where gRPC is, if it is on."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, grpc_target: str = "") -> None:
        self.process = process
        self.port = port
        self.grpc_target = grpc_target
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def log_records(self, logger: str) -> list[dict[str, Any]]:
        """The JSON records of one logger; needs SERVING__LOGGING__FORMAT=json."""
        lines = (line for line in self.log().splitlines() if line.startswith("{"))
        return [record for line in lines if (record := json.loads(line))["logger"] == logger]

    def workers(self, service: str) -> list[psutil.Process]:
        """Processes that serve `service`, such as `model_serving` or `iris_runner`."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                arguments = process.cmdline()
            except psutil.NoSuchProcess:  # has just ended
                continue
            if "--service-name" in arguments and arguments[arguments.index("--service-name") + 1] == service:
                found.append(process)
        return found

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server was not ready within {START_SECONDS} s:\n{self.log()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor, as a container engine does, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def serving(*, root: Path = ROOT, target: str = "service:svc", wait: bool = True, **settings: str) -> Iterator[Server]:
    """Run `bentoml serve` with `target` in `root`, with `settings` as environment variables, until the block ends.

    Without gRPC, unless a setting turns it on. `wait` until it is ready, or leave that to the test.
    """
    with TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        port, grpc_port = free_port(), free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [BENTOML, "serve", target, "--host", "127.0.0.1", "--port", str(port)],
                cwd=root,
                # its own jobs, and no process for them unless a test asks for one
                env=os.environ
                | {"SERVING__JOBS__URL": f"sqlite:///{directory}/jobs.db", "SERVING__JOBS__EMBEDDED_WORKER": "false"}
                | {"SERVING__GRPC__ENABLED": "false", "SERVING__GRPC__PORT": str(grpc_port)}
                | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, port, log, f"127.0.0.1:{grpc_port}")
        try:
            if wait:
                server.wait_until_ready()
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                finally:
                    with suppress(ProcessLookupError):  # when everything has ended by itself
                        os.killpg(process.pid, signal.SIGKILL)
