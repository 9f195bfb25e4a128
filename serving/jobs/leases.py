"""The leases that a worker holds, renewed from a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from serving.core.backoff import Backoff, wait_for
from serving.core.errors import UnavailableError
from serving.jobs.job import Lease
from serving.jobs.store import JobStore

logger = logging.getLogger("serving.jobs.leases")

_RENEWALS_PER_LEASE = 3


class Leases:
    """Renews the leases that are held, three times per lease.

    It has a thread, an event loop and a store of its own, so that neither a blocked loop nor an engine that keeps
    the interpreter busy costs a lease. The other methods may be called in any thread.

    Args:
        make_store: makes the store; it is opened and used in the thread only.
        lease_seconds: of `jobs`.
    """

    def __init__(self, make_store: Callable[[], JobStore], *, lease_seconds: float) -> None:
        self._make_store = make_store
        self._interval = lease_seconds / _RENEWALS_PER_LEASE
        self._lock = threading.Lock()
        self._held: set[Lease] = set()
        self._lost: set[Lease] = set()
        self._end: Callable[[], object] = lambda: None
        self._running = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._renew_all()), name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """End the thread; leases that are still held run out."""
        self._end()
        self._thread.join()

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._held.add(lease)

    def drop(self, lease: Lease) -> None:
        """The attempt is over."""
        with self._lock:
            self._held.discard(lease)
            self._lost.discard(lease)

    def lost(self, lease: Lease) -> bool:
        """Whether the store has said that the lease does not hold any more."""
        with self._lock:
            return lease in self._lost

    async def _renew_all(self) -> None:
        stop = asyncio.Event()
        self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        self._running.set()
        store = self._make_store()
        try:
            with suppress(UnavailableError):  # it connects by itself later
                await store.open()
            backoff = Backoff(most=self._interval)
            pause = self._interval
            while not await wait_for(stop, pause):
                try:
                    await self._renew(store)
                except UnavailableError as error:
                    pause = backoff.next()
                    logger.warning("leases could not be renewed, trying again: %s", error.message)
                except Exception:
                    pause = backoff.next()
                    logger.exception("leases could not be renewed, trying again")
                else:
                    pause = self._interval
                    backoff.reset()
        finally:
            await store.close()

    async def _renew(self, store: JobStore) -> None:
        with self._lock:
            leases = [lease for lease in self._held if lease not in self._lost]
        if not leases:
            return
        holding = await store.renew(leases)
        with self._lock:
            lost = {lease for lease in leases if lease.job_id not in holding} & self._held
            self._lost |= lost
        for lease in lost:
            logger.warning("job %s: the lease of attempt %d does not hold any more", lease.job_id, lease.attempt)
