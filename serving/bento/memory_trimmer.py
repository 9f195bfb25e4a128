"""A process that was busy gives back what it needed for that once it is quiet.

Freed memory stays with Python's and the C library's allocators, and without traffic nothing would ever make them
return it: after a minute of overload an API worker would keep half as much again as it started with.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from collections.abc import Callable

INTERVAL_SECONDS = 5.0
_BUSY = 0.25
_QUIET = 0.05
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def release() -> None:
    """Collect garbage and return free pages to the system: some tens of milliseconds."""
    gc.collect()
    if _malloc_trim is not None:  # glibc's; other C libraries return pages by themselves
        _malloc_trim(0)


class MemoryTrimmer:
    """Looks at the processor time of this process every few seconds; calls `give_back` when work has ended.

    Only after an interval with more than a quarter of a core and then one with less than a twentieth: a server in
    use is never held up by it, and an idle one does it once.
    """

    def __init__(
        self, *, give_back: Callable[[], None] = release, processor_seconds: Callable[[], float] = time.process_time
    ) -> None:
        self._give_back = give_back
        self._processor_seconds = processor_seconds
        self._used = processor_seconds()
        self._worked = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again and again, for as long as `loop` runs."""
        loop.call_later(INTERVAL_SECONDS, self._look_and_watch, loop)

    def _look_and_watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        self.watch(loop)

    def look(self) -> None:
        """Call it every `INTERVAL_SECONDS`."""
        used = self._processor_seconds()
        share, self._used = (used - self._used) / INTERVAL_SECONDS, used
        if share > _BUSY:
            self._worked = True
        elif self._worked and share < _QUIET:
            self._worked = False
            self._give_back()
            self._used = self._processor_seconds()
