"""The pipe in which a worker says which jobs wait, when nobody reads it any more."""

from __future__ import annotations

import os

from serving.jobs.job import Lease
from serving.jobs.journal import Journal, JournalReader

LEASE = Lease("a", "iris", "owner", 1)


def test_what_waits_is_read() -> None:
    reader, writer = os.pipe()
    Journal(writer).waiting([LEASE])
    os.close(writer)
    found = JournalReader("owner")
    found.read(os.read(reader, 65_536))
    os.close(reader)
    assert found.waiting == [LEASE]


def test_a_worker_goes_on_without_a_supervisor() -> None:
    """Killed, it reads no more: claiming must not fail with it, as the worker is still to give back its jobs."""
    reader, writer = os.pipe()
    os.close(reader)
    journal = Journal(writer)
    journal.waiting([LEASE])
    journal.begun([LEASE])
    journal.over()
    os.close(writer)
