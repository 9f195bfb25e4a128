"""Scorers in processes of their own, for the tests that kill them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from tests.server import ROOT

START_SECONDS = 60.0
END_SECONDS = 60.0


class Ended(NamedTuple):
    status: int
    """Negative: of the signal that ended it."""
    answer: Any
    """The summary of its run, or the traceback of what ended it."""


class Scorers:
    """Starts scorers of iris rows by forking a process that has everything loaded."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.batch.scorer_program"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._pids: queue.Queue[int] = queue.Queue()
        self._ended: dict[int, queue.Queue[Ended]] = {}
        self._reader = threading.Thread(target=self._read)
        self._ready = threading.Event()
        self._reader.start()
        assert self._ready.wait(START_SECONDS), "the program that forks scorers did not start"

    def start(self, url: str, **plan: Any) -> int:
        """Start a scorer; its process id."""
        assert self._process.stdin is not None
        order = {"url": url, "lease_seconds": 1.0, "retry_seconds": 30.0} | plan
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._pids.get(timeout=START_SECONDS)

    def end(self, pid: int) -> Ended:
        """Wait for the end of a scorer."""
        return self._ended[pid].get(timeout=END_SECONDS)

    def kill(self, pid: int) -> Ended:
        """SIGKILL a scorer, unless it has ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.end(pid)

    def run(self, url: str, **plan: Any) -> dict[str, Any]:
        """The summary of a run that nothing happens to."""
        ended = self.end(self.start(url, **plan))
        assert ended.status == 0, ended.answer
        summary: dict[str, Any] = ended.answer
        return summary

    def close(self) -> None:
        assert self._process.stdin is not None
        for pid, ended in self._ended.items():
            if ended.empty():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.stdin.close()
        self._reader.join(END_SECONDS)
        self._process.wait(END_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            first, *rest = line.split(maxsplit=2)
            if first == "ready":
                self._ready.set()
            elif not rest:
                self._ended[int(first)] = queue.Queue()
                self._pids.put(int(first))
            else:
                self._ended[int(first)].put(Ended(int(rest[0]), json.loads(rest[1]) if rest[1:] else None))


@pytest.fixture(scope="module")
def scorers(model_store: object) -> Iterator[Scorers]:  # noqa: ARG001 - the model has to be there
    started = Scorers()
    yield started
    started.close()
