"""What a prediction is for a program that asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ProtocolName = Literal["native", "tfserving", "v2"]
ALL_CLASSES = 1_000_000
"""More than any model has; servers name those that there are."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that an input may belong to."""

    label: str
    class_id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one row or image, or of the tensors of a request. The task of the model says which attribute is there.

    Attributes:
        candidates: of a classification, the most probable classes, best first.
        value: of a regression, the number or numbers.
        outputs: otherwise, the outputs as NumPy arrays by name: those of the row or image, or as they are for tensors.
    """

    candidates: tuple[Candidate, ...] = ()
    value: float | list[Any] | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The most probable class. Raises ValueError where there are no classes."""
        if not self.candidates:
            raise ValueError("the prediction has no classes")
        return self.candidates[0].label


def best(pairs: Iterable[Sequence[Any]], top_k: int | None) -> Prediction:
    """From label and probability of every class, in the order of their ids."""
    candidates = [Candidate(str(label), index, float(value)) for index, (label, value) in enumerate(pairs)]
    candidates.sort(key=lambda candidate: -candidate.probability)
    return Prediction(tuple(candidates[:top_k]))
