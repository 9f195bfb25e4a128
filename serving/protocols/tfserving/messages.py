"""What is said in TensorFlow Serving's API, whether in JSON or in protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from serving.core.signature import TensorSpec
from serving.core.tensors import Tensors

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"


@dataclass(frozen=True, eq=False)
class Signature:
    """One way to call a model: a method, and the tensors in and out.

    Attributes:
        has_rows: the first dimension of all of them is the number of rows.
        max_rows: rows that a request may have.
        allow_nan: the model takes NaN for missing values.
    """

    method: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    has_rows: bool
    max_rows: int
    allow_nan: bool


class Inputs(Protocol):
    """The tensors of a request, which are read once it is known what they have to be."""

    def read(self, signature: Signature) -> Tensors:
        """Arrays of the dtypes of the signature's inputs, by name; raises InvalidInputError."""


@dataclass(slots=True)
class PredictRequest:
    """`outputs` is empty where all are asked for."""

    signature_name: str
    inputs: Inputs
    outputs: Sequence[str] = ()


@dataclass(slots=True)
class PredictResponse:
    signature_name: str
    signature: Signature
    outputs: Tensors


class Feature(NamedTuple):
    """One feature of an example.

    Attributes:
        values: numbers, strings or bytes.
        kind: the list that they come in, such as `float_list`; empty where the form has no such lists.
    """

    values: list[Any]
    kind: str = ""


Example = Mapping[str, Feature]
"""Features by name."""


@dataclass(slots=True)
class ClassifyRequest:
    """`context` counts for every example."""

    signature_name: str
    examples: Sequence[Example]
    context: Example = field(default_factory=dict)


@dataclass(slots=True)
class ClassifyResponse:
    """Of each example the score of each label, in the order of the class ids."""

    signature_name: str
    labels: Sequence[str]
    scores: list[list[float]]


@dataclass(slots=True)
class ModelDescription:
    """A model and its signatures by name."""

    name: str
    version: int
    signatures: Mapping[str, Signature]
