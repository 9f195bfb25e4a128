"""The regular maintenance of a job store by every process that has it open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from serving.core.errors import UnavailableError
from serving.jobs.job import ModelStats
from serving.jobs.store import JobStore

logger = logging.getLogger("serving.jobs")

PAUSE_SECONDS = 1.0
_ROUNDS_PER_STATS = 5


class Maintenance:
    """Opens a store and calls its `maintain` every second, so that leases and times to live end even without workers.

    It goes on through every outage of the store: the log has one line when the store is away and one when it is back.

    Args:
        tell: called at once, and then every few seconds, with the statistics of the store.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        tell: Callable[[dict[str, ModelStats]], None] | None = None,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._store = store
        self._tell = tell
        self._pause_seconds = pause_seconds
        self._away = False
        self._task: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether the store could not be reached when it was last asked."""
        return self._away

    async def start(self) -> None:
        """Open the store. A store that cannot be reached connects by itself later."""
        try:
            await self._store.open()
        except UnavailableError as error:
            self._note(error)
        self._task = asyncio.create_task(self._run(), name="jobs maintenance")

    async def stop(self) -> None:
        """End the task and close the store."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._store.close()

    async def _run(self) -> None:
        rounds = 0
        while True:
            try:
                await self._store.maintain()
                if self._tell is not None and rounds % _ROUNDS_PER_STATS == 0:
                    self._tell(await self._store.stats())
                rounds += 1
            except UnavailableError as error:
                self._note(error)
            except Exception:  # the next round may succeed, and no other task does this work
                logger.exception("the maintenance of the job store failed")
            else:
                self._note(None)
            await asyncio.sleep(self._pause_seconds)

    def _note(self, error: UnavailableError | None) -> None:
        if error is not None and not self._away:
            logger.warning("the job store cannot be reached: %s", error.message)
        elif error is None and self._away:
            logger.warning("the job store can be reached again")
        self._away = error is not None
