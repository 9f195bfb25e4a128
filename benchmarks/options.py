"""What the command line asks of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.load import Generator
from benchmarks.measurement import Progress
from benchmarks.server import Server


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` per round and number of connections is the benchmark's own default when `None`; `only` empty is all."""

    generator: Generator
    progress: Progress
    rounds: int = 3
    seconds: float | None = None
    only: frozenset[str] = frozenset()
    rows: int | None = None
    """Of the batch benchmark, where it is not to be run in full."""

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only

    def chosen(self, servers: Iterable[Server]) -> list[Server]:
        return [server for server in servers if self.wants(server.name)]
