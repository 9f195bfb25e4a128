"""The jobs that a worker process has claimed but not begun. Its supervisor gives them back if the worker dies.

The store cannot tell them from running jobs, and would count an attempt of a job that only waited for the engine. The
worker writes to a pipe, whose content outlives it.
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
    """The worker's end. Without a descriptor it does nothing."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def waiting(self, leases: Iterable[Lease]) -> None:
        """These jobs are decoded. Until they have begun, the death of this process costs them no attempt."""
        self._write(_Entry(waiting=[(lease.job_id, lease.model, lease.attempt) for lease in leases]))

    def begun(self, leases: Iterable[Lease]) -> None:
        """These jobs begin now, or are given back."""
        self._write(_Entry(begun=[lease.job_id for lease in leases]))

    def over(self) -> None:
        """An attempt has ended."""
        self._write(_Entry(over=True))

    def _write(self, entry: _Entry) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, msgspec.json.encode(entry) + b"\n")
        except BrokenPipeError:
            # The supervisor has died. This process is about to notice and drains: it gives back by itself what has
            # not begun.
            self._descriptor = None


class JournalReader:
    """The supervisor's end: the jobs that wait in the worker, and whether the worker has ended any attempt."""

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
