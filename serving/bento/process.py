"""What every server process of a Bento does at its start: logging, metrics, stop signals, garbage collection."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from serving.bento.drain import Drain, api_workers_ended, refuse_connections
from serving.bento.internals import server_context
from serving.bento.memory_trimmer import MemoryTrimmer
from serving.logs import configure_logging
from serving.metrics import DIRECTORY_VARIABLE, Metrics, use_own_directory
from serving.settings import Settings

# Collections of the young generation per so many allocations, instead of 700: what a request allocates is
# freed by reference counts, so collecting finds next to nothing.
_GC_THRESHOLDS = (50_000, 20, 50)


class ServerProcess:
    """The process that this code runs in. `metrics` and `drain` are its own."""

    def __init__(self, settings: Settings, *, runner_name: str) -> None:
        self._settings = settings
        use_own_directory()
        self.metrics = Metrics(
            service_name=server_context.bento_name,
            service_version=server_context.bento_version,
            runner_name=runner_name,
            duration_buckets=settings.metrics.duration_buckets,
        )
        self.drain = Drain(limit_seconds=settings.server.drain_seconds)
        self.host = "127.0.0.1"
        """The address that HTTP listens on."""

    def start_api(self, name: str) -> None:
        """Take over logging and the stop signals, as a worker of the entry service `name`."""
        # Only BentoML's worker command has the listening socket; elsewhere there is nothing to refuse on.
        descriptor = _option("--fd")
        notes = os.environ.get(DIRECTORY_VARIABLE)
        refuse = refuse_connections(name, int(descriptor), Path(notes)) if descriptor and notes else lambda: True
        if descriptor:
            with socket.socket(fileno=os.dup(int(descriptor))) as listener:
                self.host = listener.getsockname()[0]
        self._take_over(Drain(limit_seconds=self._settings.server.drain_seconds, refuse=refuse))

    def start_runner(self, *, drains_after: str) -> None:
        """Take over logging and the stop signals, as a runner.

        `drains_after` names the service whose workers have to end before this process may.
        """
        self._take_over(
            Drain(limit_seconds=self._settings.server.drain_seconds, wait_for=api_workers_ended(drains_after))
        )

    def start_beside(self, *, on_stop: Callable[[], object], ended: Callable[[], bool]) -> None:
        """Take over logging and the stop signals, as a process that works by itself.

        `on_stop` is called in the event loop when a signal comes; the process may end once `ended` is true.
        """
        drain = Drain(limit_seconds=self._settings.server.drain_seconds, wait_for=ended)
        drain.on_start.append(on_stop)
        self._take_over(drain)

    def _take_over(self, drain: Drain) -> None:
        configure_logging(self._settings.logging)
        self.drain = drain
        drain.install()
        MemoryTrimmer().watch(asyncio.get_running_loop())

    def loaded(self) -> None:
        """Call once everything that stays is in memory.

        The collector then no longer walks through it, which with many requests in flight stops the server for
        a time. Frozen, not disabled, because cycles of requests still have to be freed.
        """
        if self._settings.server.freeze_gc:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)


def _option(name: str) -> str | None:
    """Value of an option of the command line of this process."""
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None
