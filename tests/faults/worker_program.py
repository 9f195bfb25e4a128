"""What `serving worker` does, with the jobs of the fault tests, in a process of its own.

A server that has imported everything forks them: importing takes as long as all else in these tests. The worker
processes that they supervise start as they always do.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from serving.jobs.supervisor import Supervisor, _supervise
from serving.logs import configure_logging
from serving.settings import get_settings
from tests.faults.works import MODEL
from tests.server import ROOT

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def start(log: Path, variables: dict[str, str], *, concurrency: int) -> ForkServerProcess:
    """Start a supervisor with `variables` of the environment; it and its worker write to `log`."""
    process = _context.Process(target=_main, args=(log, variables, concurrency))
    process.start()
    return process


def _end_with_the_tests() -> None:
    """Whoever kills the tests leaves no worker behind: without its supervisor it ends by itself."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    tests.join()
    os._exit(1)


def _main(log: Path, variables: dict[str, str], concurrency: int) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    os.chdir(ROOT)
    os.environ |= variables
    settings = get_settings()
    configure_logging(settings.logging)
    supervisor = Supervisor(
        settings, models={MODEL: None}, concurrency=concurrency, work="tests.faults.works:make_work"
    )
    sys.exit(asyncio.run(_supervise(supervisor)))
