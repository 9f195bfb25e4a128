"""Giving memory back after work."""

from __future__ import annotations

import asyncio

import pytest

from serving.bento import memory_trimmer
from serving.bento.memory_trimmer import INTERVAL_SECONDS, MemoryTrimmer


class Process:
    """Processor time that a test spends."""

    def __init__(self) -> None:
        self.used = 100.0
        self.given_back = 0
        self.spare = MemoryTrimmer(give_back=self._give_back, processor_seconds=lambda: self.used)

    def _give_back(self) -> None:
        self.given_back += 1
        self.used += INTERVAL_SECONDS  # a slow one is not work that has to be cleared up after

    def after(self, *shares: float) -> int:
        """How often memory was given back in intervals that used these shares of a core."""
        self.given_back = 0
        for share in shares:
            self.used += share * INTERVAL_SECONDS
            self.spare.look()
        return self.given_back


def test_work_is_followed_by_giving_back_once() -> None:
    process = Process()
    assert process.after(0.9, 0.9, 0.01, 0.01, 0.0, 0.01) == 1
    assert process.after(1.7, 0.0, 0.0) == 1


def test_between_busy_and_quiet_it_waits() -> None:
    process = Process()
    assert process.after(0.9, 0.1, 0.2, 0.1) == 0
    assert process.after(0.01) == 1


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.2, 0.0), (0.9, 0.9)])
def test_an_idle_or_a_busy_process_is_left_alone(shares: tuple[float, float]) -> None:
    assert Process().after(*shares) == 0


def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_trimmer, "INTERVAL_SECONDS", 0.001)

    async def scenario() -> None:
        enough = asyncio.Event()
        looks: list[int] = []

        def processor_seconds() -> float:
            looks.append(1)
            if len(looks) == 5:
                enough.set()
            return 0.0

        MemoryTrimmer(processor_seconds=processor_seconds).watch(asyncio.get_running_loop())
        await asyncio.wait_for(enough.wait(), 20)

    asyncio.run(scenario())


def test_garbage_is_collected() -> None:
    import weakref

    class Node:
        def __init__(self) -> None:
            self.itself = self

    gone = weakref.ref(Node())
    memory_trimmer.release()
    assert gone() is None
