"""A private Redis for a measurement, with the durability that jobs need."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.server import HOST, ServerError, end, free_port

START_SECONDS = 10.0


def redis_is_installed() -> bool:
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server() -> Iterator[str]:
    """Its URL; with `appendonly yes`, `appendfsync everysec` and `maxmemory-policy noeviction`.

    Raises:
        ServerError: it did not start.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = ["redis-server", "--bind", HOST, "--port", str(port), "--dir", directory, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait_until_it_listens(process, port)
            yield f"redis://{HOST}:{port}/0"
        finally:
            end(process)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.perf_counter() + START_SECONDS
    while time.perf_counter() < deadline and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise ServerError("redis-server did not start")
