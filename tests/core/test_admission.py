"""The bound on requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter

from serving.core.admission import Admission
from serving.core.errors import OverloadedError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bounded:
    """An admission with its clock and metrics at hand."""

    def __init__(self, limit: int) -> None:
        registry = CollectorRegistry()
        self.clock = Clock()
        self._rejected = Counter("rejected", "-", registry=registry)
        self.admission = Admission(limit, rejected=self._rejected, clock=self.clock)

    @property
    def rejected(self) -> float:
        return self._rejected.collect()[0].samples[0].value

    def answer(self, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            with self.admission.admit():
                self.clock.now += seconds


@pytest.fixture
def bounded() -> Callable[[int], Bounded]:
    return Bounded


def test_the_limit_is_exact(bounded: Callable[[int], Bounded]) -> None:
    it = bounded(3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(it.admission.admit())
        with pytest.raises(OverloadedError, match="3 requests are waiting"), it.admission.admit():
            pass
        assert it.rejected == 1
    it.answer(0)
    assert it.rejected == 1


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_a_place_is_given_back_however_the_request_ends(
    bounded: Callable[[int], Bounded], error: type[BaseException]
) -> None:
    it = bounded(1)
    with pytest.raises(error), it.admission.admit():
        raise error
    it.answer(0)


def test_a_cancelled_task_gives_its_place_back(bounded: Callable[[int], Bounded]) -> None:
    it = bounded(1)

    async def hold() -> None:
        with it.admission.admit():
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(hold())
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError), it.admission.admit():
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    it.answer(0)


def _rejected_retry_after(it: Bounded, held: int) -> float | None:
    with contextlib.ExitStack() as stack:
        for _ in range(held):
            stack.enter_context(it.admission.admit())
        with pytest.raises(OverloadedError) as caught, it.admission.admit():
            pass
        return caught.value.retry_after


def test_without_a_measurement_it_is_one_second(bounded: Callable[[int], Bounded]) -> None:
    assert _rejected_retry_after(bounded(8), 8) == 1


@pytest.mark.parametrize(
    ("seconds", "held", "expected"),
    [
        (0.001, 100, 1),
        (0.5, 8, 4),
        (0.3, 10, 3),
        (2.0, 8, 16),
        (10.0, 64, 60),
    ],
)
def test_retry_after_is_the_time_for_what_is_held_at_the_measured_rate(
    bounded: Callable[[int], Bounded], seconds: float, held: int, expected: int
) -> None:
    it = bounded(held)
    it.answer(seconds, times=200)
    assert _rejected_retry_after(it, held) == expected


def test_requests_that_overlap_are_measured_by_their_rate_not_their_duration(
    bounded: Callable[[int], Bounded],
) -> None:
    it = bounded(10)
    # Ten are held at any time, each for a second, one ends every 0.1 s: ten in a second, not one.
    for _ in range(50):
        held = [it.admission.admit() for _ in range(10)]
        for place in held:
            place.__enter__()
        for place in held:
            it.clock.now += 0.1
            place.__exit__(None, None, None)
    assert _rejected_retry_after(it, 10) == 1


def test_idle_time_is_not_counted(bounded: Callable[[int], Bounded]) -> None:
    it = bounded(4)
    for _ in range(100):
        it.answer(0.1)
        it.clock.now += 3600
    assert _rejected_retry_after(it, 4) == 1


def test_who_is_checked_holds_no_place(bounded: Callable[[int], Bounded]) -> None:
    it = bounded(1)
    for _ in range(3):
        it.admission.check()
    with it.admission.admit():
        with pytest.raises(OverloadedError) as refused:
            it.admission.check()
        assert (refused.value.retry_after, it.rejected) == (1, 1)
    it.admission.check()


def test_a_request_may_take_several_places() -> None:
    bounded = Bounded(4)
    with bounded.admission.admit(3):
        with bounded.admission.admit():
            pass
        with pytest.raises(OverloadedError), bounded.admission.admit(2):
            pass
    assert bounded.rejected == 1
    with bounded.admission.admit(9), pytest.raises(OverloadedError), bounded.admission.admit():
        pass  # more than there are, but nobody else was there
    with bounded.admission.admit(4):
        pass
