"""Shapes that clients write down: judged before anything is allocated or converted for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.core.errors import InvalidInputError
from serving.store.models import TensorSpec

_MOST_ELEMENTS = {"bytes": 1 << 16}
_MOST_NUMBERS = 1 << 32
_MOST_LISTED = 1_000_000
"""Numbers in a list: three images. They are converted one by one, which holds up everybody; bytes are not."""


def check_shape(spec: TensorSpec, shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has.

    Raises:
        InvalidInputError: it is not the shape that the model takes.
    """
    fits = len(shape) == len(spec.shape) and all(
        length > 0 if expected is None else length == expected
        for length, expected in zip(shape, spec.shape, strict=True)
    )
    count = math.prod(shape) if fits else 0
    if not fits or count > _MOST_ELEMENTS.get(spec.dtype, _MOST_NUMBERS):
        expected = ", ".join("N" if length is None else str(length) for length in spec.shape)
        raise InvalidInputError(f"{spec.name}: the shape {str(list(shape))[:100]} is not [{expected}] with N > 0")
    return count


def check_count(spec: TensorSpec, given: int, count: int) -> None:
    """Raises InvalidInputError when a list is not as long as its shape, or longer than any list may be."""
    if given != count:
        raise InvalidInputError(f"{spec.name}: there are {given} elements, the shape needs {count}")
    check_listed(spec, given)


def check_listed(spec: TensorSpec, given: int) -> None:
    """Raises InvalidInputError when a list is longer than any list may be."""
    if given > _MOST_LISTED:
        raise InvalidInputError(f"{spec.name}: more than {_MOST_LISTED} numbers in a list; send bytes")
