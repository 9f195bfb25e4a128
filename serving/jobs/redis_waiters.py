"""Who waits for the end of a job: one subscription for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError

from serving.jobs.redis_link import RedisLink

PAUSES = (0.1, 0.5, 1.0)
QUIET_SECONDS = 5.0
SUBSCRIBE_SECONDS = 5.0


class Waiters:
    """Events by job id, set by messages on a channel. A message may be lost, so waiters also check from time to time.

    After every (re-)subscription all are woken, as what happened before it was not heard.
    """

    def __init__(self, link: RedisLink, channel: str) -> None:
        self._link = link
        self._channel = channel
        self._events: dict[bytes, set[asyncio.Event]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    @contextmanager
    def waiting(self, job_id: bytes) -> Iterator[asyncio.Event]:
        """An event that is set when the job may have finished."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        event = asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            events = self._events[job_id]
            events.discard(event)
            if not events:
                del self._events[job_id]

    def wake_all(self) -> None:
        for events in self._events.values():
            for event in events:
                event.set()

    async def close(self) -> None:
        self._closed = True
        self.wake_all()
        if self._listening is None:
            return
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening

    async def _listen(self) -> None:
        failures = 0
        while not self._closed:
            channel = self._link.channel()
            try:
                async with asyncio.timeout(SUBSCRIBE_SECONDS):
                    await channel.subscribe(self._channel)
                while not self._closed:
                    message = await channel.get_message(timeout=QUIET_SECONDS)
                    if message is None:
                        continue
                    failures = 0
                    if message["type"] == "subscribe":
                        self.wake_all()
                    elif message["type"] == "message":
                        for event in self._events.get(message["data"], ()):
                            event.set()
            except (RedisError, OSError) as error:
                if not self._link.noted(error, "subscribe") and not isinstance(error, OSError):
                    raise
            finally:
                with suppress(RedisError, OSError):
                    await channel.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1
