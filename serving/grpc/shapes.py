"""Shapes that clients write down: judged before anything is allocated for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.errors import InvalidInputError

_MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 26
"""More than any message that is let in holds, and a multiplication that nothing overflows."""


def count_elements(name: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has.

    Raises:
        InvalidInputError: a dimension is negative, or there are more dimensions or elements than anybody can mean.
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise InvalidInputError(f"{name}: {len(shape)} dimensions are too many")
    if any(length < 0 for length in shape):
        raise InvalidInputError(f"{name}: the shape {list(shape)} has a negative dimension")
    count = math.prod(shape)
    if count > MOST_ELEMENTS:
        raise InvalidInputError(f"{name}: the shape {list(shape)} has too many elements")
    return count
