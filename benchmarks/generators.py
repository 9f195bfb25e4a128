"""Which load generator this machine has."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.asyncio_load import AsyncioLoad
from benchmarks.hey_load import Hey
from benchmarks.load import Generator, LoadError
from benchmarks.oha_load import Oha
from benchmarks.wrk_load import Wrk

KNOWN: dict[str, Callable[[], Generator | None]] = {
    "wrk": Wrk.find,
    "oha": Oha.find,
    "hey": Hey.find,
    "asyncio": AsyncioLoad,
}
"""In order of preference; the last one is always there."""


def find_generator(name: str | None = None) -> Generator:
    """The named generator, without a name the first that is installed.

    Raises:
        LoadError: the named one is not installed.
    """
    for known, find in KNOWN.items():
        if name in (None, known) and (found := find()) is not None:
            return found
    raise LoadError(f"{name} is not installed")
