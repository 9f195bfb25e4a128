"""From probabilities to what `/predict` answers: the same for a request that waits and for a job."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.core.errors import ErrorDetail, InvalidInputError

Probabilities = NDArray[np.float32]
_encode = msgspec.json.encode


class RankedClass(msgspec.Struct, frozen=True):
    """One of the most probable classes. The order of the fields is that of the answer."""

    label: str
    class_id: int
    probability: float


def finite(probabilities: Probabilities) -> list[list[float]]:
    """float32 `[N, classes]` as lists.

    Raises:
        InvalidInputError: a row is not finite: its features overflowed inside the model.
    """
    rows: list[list[float]] = probabilities.tolist()
    # One sum is not finite when any value is not; for few rows this is quicker than NumPy.
    if not math.isfinite(sum(map(sum, rows))):
        row = next(index for index, row in enumerate(rows) if not math.isfinite(sum(row)))
        raise InvalidInputError(f"data[{row}]: the values are too large for this model")
    return rows


def check_top_k(top_k: int, labels: Sequence[str]) -> None:
    """Raises InvalidInputError when there are fewer than `top_k` classes."""
    if top_k > len(labels):
        message = f"at most {len(labels)}, the number of classes"
        raise InvalidInputError(f"top_k: {message}", details=[ErrorDetail("top_k", message)])


def rank(probabilities: Probabilities, labels: Sequence[str], top_k: int) -> list[RankedClass]:
    """The `top_k` most probable classes, best first, of float32 `[classes]`."""
    # Stable, so that equal probabilities come in the order of their class ids.
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [RankedClass(labels[index], int(index), float(probabilities[index])) for index in best]


def iris_answer(probabilities: Probabilities) -> bytes:
    """The body of `/iris/predict` for float32 `[N, classes]`. Raises as `finite`."""
    return _encode({"prediction": finite(probabilities)})


def image_answer(probabilities: Probabilities, labels: Sequence[str], top_k: int) -> bytes:
    """The body of `/inception_v3/predict` for float32 `[classes]`."""
    return _encode({"predictions": rank(probabilities, labels, top_k)})
