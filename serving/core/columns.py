"""The columns of a table, as the inputs of a graph have them: parts of one matrix, or a tensor each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

FLOAT_MAX = {"float16": 65504.0, "float32": 3.4028234663852886e38, "float64": 1.7976931348623157e308}
"""Largest finite numbers; a larger one would become infinity on its way into the engine."""


class Column(NamedTuple):
    """One column.

    Attributes:
        name: what records call it; the caller's name for it, as `sepal length (cm)`.
        dtype: of its input.
        input: the tensor that it goes into.
    """

    name: str
    dtype: str
    input: str


class _Tensor(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | None]: ...


class Table(Protocol):
    """What says which columns a model takes: its metadata, or what a client knows of them."""

    @property
    def inputs(self) -> Sequence[_Tensor]: ...
    @property
    def feature_names(self) -> Sequence[str]: ...


def columns_of(metadata: Table) -> list[Column]:
    """The columns of a model of rows, in the order of its inputs.

    Names are `feature_names` where the model has one for each column, else the names of inputs, numbered where an
    input has several columns.
    """
    found: list[Column] = []
    for spec in metadata.inputs:
        width = 1 if len(spec.shape) == 1 else spec.shape[1]
        if width is None:  # only one input may be so, and its columns are named
            width = len(metadata.feature_names)
        names = [spec.name] if width == 1 else [f"{spec.name}_{index}" for index in range(width)]
        found.extend(Column(name, spec.dtype, spec.name) for name in names)
    if len(metadata.feature_names) == len(found):
        found = [each._replace(name=name) for each, name in zip(found, metadata.feature_names, strict=True)]
    return found
