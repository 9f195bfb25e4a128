"""From the scores of classes to probabilities, and from probabilities to the most probable classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.core.errors import ErrorDetail, InvalidInputError

Activation = Literal["none", "softmax", "sigmoid"]
"""What makes probabilities of the scores that a graph gives; `none` where it gives probabilities."""
DEFAULT_TOP_K = 5


class RankedClass(msgspec.Struct, frozen=True):
    """One of the most probable classes. The order of the fields is that of the answer."""

    label: str
    class_id: int
    probability: float


def to_probabilities(scores: NDArray[Any], activation: Activation, classes: int) -> NDArray[Any]:
    """Probabilities `[N, classes]` from scores `[N, classes]`, or `[N, 1]` or `[N]` of the second of two classes."""
    if scores.ndim == 1:
        scores = scores[:, np.newaxis]
    if activation == "softmax":
        # https://en.wikipedia.org/wiki/Softmax_function, shifted so that nothing overflows
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        with np.errstate(over="ignore"):
            scores = 1 / (1 + np.exp(-scores))
    if classes == 2 and scores.shape[1] == 1:
        scores = np.concatenate([1 - scores, scores], axis=1)
    return scores


def choose_top_k(top_k: int | None, labels: Sequence[str]) -> int:
    """How many classes to name; 5 unless asked for, or all where there are fewer.

    Raises:
        InvalidInputError: there are fewer classes than are asked for.
    """
    if top_k is None:
        return min(DEFAULT_TOP_K, len(labels))
    if top_k > len(labels):
        message = f"at most {len(labels)}, the number of classes"
        raise InvalidInputError(f"top_k: {message}", details=[ErrorDetail("top_k", message)])
    return top_k


def rank(probabilities: NDArray[Any], labels: Sequence[str], top_k: int) -> list[RankedClass]:
    """The `top_k` most probable classes, best first, of probabilities `[classes]`."""
    # Stable, so that equal probabilities come in the order of their class ids.
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [RankedClass(labels[index], int(index), float(probabilities[index])) for index in best]


def most_probable(probabilities: NDArray[Any], labels: Sequence[str]) -> list[str]:
    """The label of each row of probabilities `[N, classes]`."""
    if len(probabilities) == 1:  # one row is the most frequent request, and quicker so
        return [labels[int(probabilities.argmax())]]
    return [labels[index] for index in probabilities.argmax(axis=1).tolist()]
