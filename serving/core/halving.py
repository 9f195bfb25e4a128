"""Finding what makes a batch fail, when all that is known is that the batch as a whole has failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)


def run_in_halves(batch: Sequence[T], call: Callable[[Sequence[T]], Sequence[R]], catch: type[E]) -> list[R | E]:
    """One call for `batch`; when it fails, the batch is tried in halves until only the culprits fail.

    Args:
        batch: at least one item; slices of it are passed to `call`.
        call: gives one result for each item of what it is passed.
        catch: exceptions that one item may have caused. Others end the whole batch.

    Returns:
        For each item its result, or what `call` raised for that item alone.
    """
    try:
        return list(call(batch))
    except catch as error:
        if len(batch) == 1:
            return [error]
    middle = len(batch) // 2
    return run_in_halves(batch[:middle], call, catch) + run_in_halves(batch[middle:], call, catch)
