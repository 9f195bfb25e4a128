"""The embedded job store: one SQLite file for the processes of one host."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from serving.core.errors import ConfigurationError, UnavailableError
from serving.jobs.job import Claimed, Job, JobError, JobPage, Lease, ModelStats, NewJob, Status, Submitted
from serving.jobs.notify import Notifier, topic
from serving.jobs.sqlite_queue import SqliteQueue
from serving.jobs.sqlite_schema import connect, is_crowded, is_outage
from serving.jobs.sqlite_view import SqliteView
from serving.settings.jobs import JobsSettings

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_PREFIX = "sqlite:///"
_ROUNDS = 20


class SqliteJobStore:
    """A `JobStore` in a file that several processes of one host may open.

    One thread has the one connection: SQLite has one writer anyway, and the event loop never waits for the disk.
    A commit is on the disk before it is answered. Waiting needs no thread: `serving.jobs.notify` wakes the loop.

    Raises:
        ConfigurationError: the URL has no file.
    """

    def __init__(self, settings: JobsSettings) -> None:
        self._file = _file_of(settings.url)
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._connection: sqlite3.Connection | None = None
        self._notifier = Notifier(self._file)
        self._closed = False

    async def open(self) -> None:
        """See `JobStore.open`.

        Raises:
            ConfigurationError: the directory does not exist, or the file is of another version.
            UnavailableError: as for every method, the file cannot be used at the moment.
        """
        self._notifier.open()
        try:
            await self._in_thread(self._connected)
        except ConfigurationError:
            await self.close()
            raise

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._notifier.close()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    async def submit(self, new: NewJob) -> Submitted:
        return await self._write(lambda queue: queue.submit(new))

    async def get(self, job_id: str) -> Job:
        job, overdue = await self._read(lambda view: view.look(job_id))
        # Nobody else would say that it has expired where no worker runs.
        return await self._write(lambda queue: queue.current(job_id)) if overdue else job

    async def wait(self, job_id: str, seconds: float) -> Job:
        deadline = time.monotonic() + seconds
        with self._notifier.listening(topic("job", job_id)) as changed:
            while True:
                changed.clear()
                job = await self.get(job_id)
                left = deadline - time.monotonic()
                if job.status.finished or left <= 0:
                    return job
                await _pause(changed, min(left, self._notifier.longest_pause))
                if self._closed:
                    return job

    async def page(
        self, *, status: Status | None = None, model: str | None = None, limit: int = 50, after: str | None = None
    ) -> JobPage:
        return await self._read(lambda view: view.page(status, model, limit, after))

    async def cancel(self, job_id: str) -> Job:
        return await self._write(lambda queue: queue.cancel(job_id))

    async def retry(self, job_id: str, *, ttl_seconds: float) -> Job:
        return await self._write(lambda queue: queue.retry(job_id, ttl_seconds))

    async def stats(self) -> dict[str, ModelStats]:
        return await self._read(lambda view: view.stats())

    async def wait_for_work(self, model: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._notifier.listening(topic("work", model)) as changed:
            while not self._closed:
                changed.clear()
                next_work = await self._read(lambda view: view.seconds_to_work(model))
                left = deadline - time.monotonic()
                if next_work <= 0 or left <= 0:
                    return
                await _pause(changed, min(left, next_work, self._notifier.longest_pause))

    async def claim(self, model: str, owner: str, *, limit: int) -> list[Claimed]:
        return await self._write(lambda queue: queue.claim(model, owner, limit))

    async def renew(self, leases: Sequence[Lease]) -> set[str]:
        return await self._write(lambda queue: queue.renew(leases))

    async def succeed(self, lease: Lease, result: bytes) -> bool:
        return await self._write(lambda queue: queue.succeed(lease, result))

    async def fail(self, lease: Lease, error: JobError, *, retryable: bool) -> bool:
        return await self._write(lambda queue: queue.fail(lease, error, retryable))

    async def release(self, lease: Lease) -> bool:
        return await self._write(lambda queue: queue.release(lease))

    async def abandon(self, owner: str) -> int:
        return await self._write(lambda queue: queue.abandon(owner))

    async def maintain(self) -> None:
        # In rounds, between which others have their turn; what is left is for the next call.
        for _ in range(_ROUNDS):
            if not await self._write(lambda queue: queue.maintain()):
                return

    async def _read(self, step: Callable[[SqliteView], _Answer]) -> _Answer:
        return await self._in_thread(partial(self._view, step))

    async def _write(self, step: Callable[[SqliteQueue], _Answer]) -> _Answer:
        return await self._in_thread(partial(self._change, step))

    async def _in_thread(self, step: Callable[[], _Answer]) -> _Answer:
        if self._closed:
            raise UnavailableError("the job store is closed", retry_after=1)
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._guard, step))

    # What follows runs in the thread that has the connection.

    def _guard(self, step: Callable[[], _Answer]) -> _Answer:
        try:
            return step()
        except sqlite3.Error as error:
            if not is_outage(error):
                raise
            logger.warning("the job store %s cannot be used: %s", self._file, error)
            if not is_crowded(error):  # the next call opens the file anew: it may have been mended or replaced
                self._disconnect()
            raise UnavailableError("the job store cannot be used at the moment", retry_after=1) from error

    def _view(self, step: Callable[[SqliteView], _Answer]) -> _Answer:
        connection = self._connected()
        with _transaction(connection, "BEGIN"):
            return step(SqliteView(connection, self._settings))

    def _change(self, step: Callable[[SqliteQueue], _Answer]) -> _Answer:
        connection = self._connected()
        with _transaction(connection, "BEGIN IMMEDIATE"):
            queue = SqliteQueue(connection, self._settings)
            answer = step(queue)
        self._notifier.publish(queue.topics)
        return answer

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._file)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


async def _pause(changed: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()


def _file_of(url: str) -> Path:
    """Three slashes before a path relative to the working directory, four before an absolute one."""
    name = url.removeprefix(_PREFIX)
    if name == url or not name or name == ":memory:" or "?" in name or "\0" in name:
        raise ConfigurationError("jobs.url: sqlite:///file.db or sqlite:////directory/file.db is required")
    return Path(name).absolute()
