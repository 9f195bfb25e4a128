"""Keeps a worker process running: notices its death at once, tells the store and starts another."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

import serving
from serving.core.backoff import Backoff, wait_for
from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs.job import Lease
from serving.jobs.journal import JournalReader
from serving.jobs.process import DRAIN, EXIT_CONFIGURATION, HURRY, Plan, plan_of
from serving.jobs.store import JobStore, open_store
from serving.logs import configure_logging
from serving.settings import Settings, get_settings
from serving.store.models import StoredModel, check_versions, open_model

logger = logging.getLogger("serving.jobs.supervisor")

OPEN_WORK = "serving.jobs.work:open_work"
# The worker finds the package where this process found it. The working directory stays the same, as the path of the
# store may be relative to it.
_START = "import sys; sys.path.insert(0, sys.argv[1]); from serving.jobs.process import main; main()"
_ABANDON_SECONDS = 2.0
_KILL_SECONDS = 3.0


def new_owner() -> str:
    """A unique name for the owner of the leases of one worker process."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


class Supervisor:
    """One worker process at a time, for as long as `run` runs.

    A worker that dies is replaced at once. When several in a row die without finishing a job, each is replaced after a
    pause; the pauses grow to five seconds.

    Args:
        models: by name; `None` where `work` needs no stored model.
        concurrency: engine calls at a time for each model.
        port: of the worker's `/readyz` and `/metrics`; with `None` there is no port.
        eager: load the engines before the first job comes.
        work: see `serving.jobs.process.Plan`.
        make_store: makes the store that is told of dead workers' jobs.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        models: Mapping[str, StoredModel | None],
        concurrency: int = 1,
        port: int | None = None,
        eager: bool = True,
        work: str = OPEN_WORK,
        make_store: Callable[[], JobStore] | None = None,
    ) -> None:
        self._settings = settings
        self._plan = Plan(
            owner="",
            settings=settings.model_dump(mode="json"),
            models={name: plan_of(model) if model else None for name, model in models.items()},
            concurrency=concurrency,
            port=port,
            eager=eager,
            work=work,
            journal=-1,
        )
        self._make_store = make_store or partial(open_store, settings.jobs)
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._abandoning: set[asyncio.Task[None]] = set()
        self.ended = False
        """Whether `run` is over and no worker process is left."""

    @property
    def pid(self) -> int | None:
        """Process id of the running worker; `None` when there is none."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Drain; a second call gives running jobs back. Call it in the thread of the event loop."""
        order = HURRY if self._stopping.is_set() else DRAIN
        self._stopping.set()
        if self._process is not None:
            self._say(self._process, order)

    async def run(self) -> int:
        """Until `stop`; the exit code for a process that does nothing else.

        It is 0 after `stop`, and EXIT_CONFIGURATION when a worker cannot start as it is configured.
        """
        backoff = Backoff(first=0.25)
        futile = 0
        try:
            while True:
                owner = new_owner()
                journal = JournalReader(owner)
                try:
                    code = await self._run_worker(owner, journal)
                except OSError:  # no memory or no process left just now
                    logger.exception("no worker process can be started")
                    code = 1
                if self._stopping.is_set() or code == EXIT_CONFIGURATION:
                    if code:
                        await self._abandon_briefly(owner, journal.waiting)
                    return 0 if self._stopping.is_set() else code
                logger.error("the worker process %s; starting another", _how(code))
                self._abandon_beside(owner, journal.waiting)
                if journal.progress:
                    backoff.reset()
                futile = 0 if journal.progress else futile + 1
                # The first death may be an accident: no pause.
                if futile > 1 and await wait_for(self._stopping, backoff.next()):
                    return 0
        finally:
            await self._end()

    async def _run_worker(self, owner: str, journal: JournalReader) -> int:
        """Exit code, negative for a signal."""
        reader, writer = os.pipe()
        reading = asyncio.create_task(_read(reader, journal))
        try:
            plan = msgspec.structs.replace(self._plan, owner=owner, journal=writer)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _START,
                str(Path(serving.__file__).parent.parent),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(writer,),
                # Ctrl-C at a terminal signals every process of it; the worker is told from here.
                start_new_session=True,
            )
            os.close(writer)
            writer = -1
            self._say(process, msgspec.json.encode(plan) + b"\n")
            self._process = process
            if self._stopping.is_set():
                self._say(process, DRAIN)
            return await self._wait(process)
        finally:
            self._process = None
            if writer >= 0:
                os.close(writer)
            await reading  # nobody has the other end open any more, so this reads to the end

    @staticmethod
    def _say(process: Process, order: bytes) -> None:
        if process.returncode is None:
            cast(asyncio.StreamWriter, process.stdin).write(order)

    async def _wait(self, process: Process) -> int:
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await asyncio.wait((ended,), timeout=self._settings.server.drain_seconds + _KILL_SECONDS)
            return ended.result() if ended.done() else await self._kill(process)
        finally:
            stopping.cancel()
            if not ended.done():  # this task is cancelled, and nobody else ends the process
                with suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(ended, stopping, return_exceptions=True)

    async def _kill(self, process: Process) -> int:
        logger.error("the worker process does not end; killing it")
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    def _abandon_beside(self, owner: str, waiting: Sequence[Lease]) -> None:
        """In a task, so that the next worker does not wait for a store that is down."""
        task = asyncio.create_task(self._abandon(owner, waiting))
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)

    async def _abandon(self, owner: str, waiting: Sequence[Lease]) -> None:
        """Give back the jobs that a dead worker had not begun and fail the others, once the store answers.

        If it never does, the leases run out.
        """
        store = self._make_store()
        backoff = Backoff()
        left = list(waiting)
        try:
            while True:
                try:
                    while left:
                        await store.release(left[-1])
                        left.pop()
                    count = await store.abandon(owner)
                except UnavailableError as error:
                    logger.warning("the jobs of the dead worker cannot be given up yet: %s", error.message)
                else:
                    logger.info("%d jobs died with their worker, %d had not begun", count, len(waiting))
                    return
                await asyncio.sleep(backoff.next())
        except Exception:
            logger.exception("the jobs of the dead worker cannot be given up; their leases run out")
        finally:
            await store.close()

    async def _abandon_briefly(self, owner: str, waiting: Sequence[Lease]) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._abandon(owner, waiting), _ABANDON_SECONDS)

    async def _end(self) -> None:
        if self._abandoning:
            await asyncio.wait(self._abandoning, timeout=_ABANDON_SECONDS)
        for task in self._abandoning:
            task.cancel()
        await asyncio.gather(*self._abandoning, return_exceptions=True)
        self.ended = True


def supervise(*, models: Sequence[str], concurrency: int, port: int | None) -> int:
    """Run a worker for `models` until SIGTERM or SIGINT; the exit code.

    Args:
        models: names; none means all that are enabled.
        concurrency: engine calls at a time for each model.
        port: of `/livez`, `/readyz` and `/metrics`; `None` takes `jobs.worker_port`.

    Raises:
        ConfigurationError: there is no such model, or it is not enabled, or the URL of the store is not valid.
        ModelError: a model is not in the store or cannot be served.
    """
    settings = get_settings()
    configure_logging(settings.logging)
    return asyncio.run(
        _supervise(
            Supervisor(
                settings,
                models=open_models(settings, models),
                concurrency=concurrency,
                port=settings.jobs.worker_port if port is None else port,
            )
        )
    )


async def _supervise(supervisor: Supervisor) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    return await supervisor.run()


def open_models(settings: Settings, names: Sequence[str] = ()) -> dict[str, StoredModel]:
    """The stored models of `names`, or of all that are enabled. Raises as `supervise`."""
    served = settings.served
    unknown = sorted(set(names) - set(served))
    if unknown:
        raise ConfigurationError(
            f"{', '.join(unknown)}: choose from {', '.join(served) or 'none: no model is enabled below models'}"
        )
    models = {name: open_model(entry.tag) for name, entry in served.items() if not names or name in names}
    for model in models.values():
        check_versions(model, strict=settings.server.strict_versions)
    return models


async def _read(descriptor: int, journal: JournalReader) -> None:
    """Read until every process has closed the other end; then close this one."""
    lines = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        async for line in lines:
            # A worker that was killed in the middle of a line leaves half of it, which says nothing.
            if line.endswith(b"\n"):
                journal.read(line)
    finally:
        transport.close()


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
