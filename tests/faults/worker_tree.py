"""A supervisor and its worker process, both real, and what can happen to them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import cast

import psutil

from tests.faults.worker_program import start

STOP_SECONDS = 60


class WorkerTree:
    """Started by its constructor; what it logs goes to `log`."""

    def __init__(self, log: Path, variables: dict[str, str], *, concurrency: int) -> None:
        self.log = log
        log.touch()
        self._process = start(log, variables, concurrency=concurrency)
        # Kept, as the process forgets it when it has ended.
        self.pid = cast(int, self._process.pid)
        """Of the supervisor."""

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def worker(self) -> psutil.Process | None:
        """The worker process, unless there is none just now."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                if child.status() != psutil.STATUS_ZOMBIE:
                    return child
        return None

    def kill_worker(self) -> bool:
        """SIGKILL for the worker process alone; false when there is none just now."""
        worker = self.worker()
        if worker is None:
            return False
        with suppress(psutil.NoSuchProcess):
            worker.kill()
        return True

    def kill(self) -> None:
        """SIGKILL for all, as when the host dies: the supervisor can say nothing any more."""
        if not self.alive:
            return
        os.kill(self.pid, signal.SIGSTOP)  # it shall start nobody between the look and the kill
        worker = self.worker()
        self._process.kill()
        if worker is not None:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        self._process.join(STOP_SECONDS)

    def suspend(self) -> None:
        """SIGSTOP for all, as when the host stalls."""
        os.kill(self.pid, signal.SIGSTOP)
        worker = self.worker()
        assert worker is not None
        worker.suspend()

    def resume(self) -> None:
        worker = self.worker()
        assert worker is not None
        worker.resume()
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM for the supervisor; its exit code."""
        self._process.terminate()
        self._process.join(STOP_SECONDS)
        assert self._process.exitcode is not None, "it does not stop"
        return self._process.exitcode
