"""Finding what makes a batch fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.core.halving import run_in_halves


class Doubling:
    """Fails for a batch with one of the bad numbers; notes its calls."""

    def __init__(self, *bad: int, error: type[Exception] = ValueError) -> None:
        self.bad = bad
        self.error = error
        self.calls: list[list[int]] = []

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.calls.append(list(batch))
        wrong = [number for number in batch if number in self.bad]
        if wrong:
            raise self.error(f"{wrong[0]} is bad")
        return [2 * number for number in batch]


def test_a_batch_that_works_is_one_call() -> None:
    call = Doubling()
    assert run_in_halves([1, 2, 3], call, ValueError) == [2, 4, 6]
    assert call.calls == [[1, 2, 3]]


def test_only_the_culprits_fail_and_the_order_stays() -> None:
    call = Doubling(1, 4)
    found = run_in_halves(range(6), call, ValueError)
    assert [each if isinstance(each, int) else str(each) for each in found] == [0, "1 is bad", 4, 6, "4 is bad", 10]
    assert call.calls == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [0], [1, 2], [1], [2], [3, 4, 5], [3], [4, 5], [4], [5]]


def test_one_item_is_not_tried_again() -> None:
    call = Doubling(1)
    (error,) = run_in_halves([1], call, ValueError)
    assert str(error) == "1 is bad"
    assert call.calls == [[1]]


def test_other_errors_end_the_batch() -> None:
    call = Doubling(1, error=MemoryError)
    with pytest.raises(MemoryError):
        run_in_halves([0, 1], call, ValueError)
    assert call.calls == [[0, 1]]
