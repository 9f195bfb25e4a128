"""What a worker process has claimed but not begun: told to its supervisor, which gives it back if the worker dies.

The store cannot know the difference, and would count an attempt of a job that was only waiting for the engine. What
stands in a pipe outlives who wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from serving.jobs.job import Lease


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """`waiting`: decoded and not begun. `begun`: not waiting any more. `over`: an attempt has ended."""

    waiting: list[tuple[str, str, int]] = []
    begun: list[str] = []
    over: bool = False


_decode = msgspec.json.Decoder(_Entry).decode


class Journal:
    """The worker's end. Without a descriptor nobody is told."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def waiting(self, leases: Iterable[Lease]) -> None:
        """These are decoded; until they have begun, the death of this process is not theirs."""
        self._write(_Entry(waiting=[(lease.job_id, lease.model, lease.attempt) for lease in leases]))

    def begun(self, leases: Iterable[Lease]) -> None:
        """These begin now, or are given back."""
        self._write(_Entry(begun=[lease.job_id for lease in leases]))

    def over(self) -> None:
        """An attempt has ended."""
        self._write(_Entry(over=True))

    def _write(self, entry: _Entry) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, msgspec.json.encode(entry) + b"\n")


class JournalReader:
    """The supervisor's end: `waiting` as the worker has left it, and whether it has ended any attempt."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._waiting: dict[str, Lease] = {}
        self.progress = False

    @property
    def waiting(self) -> list[Lease]:
        return list(self._waiting.values())

    def read(self, line: bytes) -> None:
        """Take in one line."""
        entry = _decode(line)
        for job_id, model, attempt in entry.waiting:
            self._waiting[job_id] = Lease(job_id, model, self._owner, attempt)
        for job_id in entry.begun:
            self._waiting.pop(job_id, None)
        self.progress |= entry.over
