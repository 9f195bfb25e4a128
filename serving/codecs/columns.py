"""The values of a table as a graph takes them: one matrix, or one tensor for each column, numbers and strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.core.columns import FLOAT_MAX, Column
from serving.core.tensors import DTYPES, STRING, Tensors, strings

if TYPE_CHECKING:
    # A client knows this module and no store.
    from serving.store.models import ModelMetadata


def value_type(dtype: str, *, allow_nan: bool) -> Any:
    """The type of a value for msgspec: what JSON has to have, within the bounds of `dtype`."""
    known = DTYPES[dtype]
    if dtype == STRING:
        return str
    if known.is_float:
        most = FLOAT_MAX[dtype]
        number: Any = Annotated[float, msgspec.Meta(ge=-most, le=most)]
        return number | None if allow_nan else number
    if known.numpy.kind == "b":
        return bool
    info = np.iinfo(known.numpy)
    # msgspec takes bounds up to int64; larger numbers do not come out of JSON as integers of that range anyway.
    return Annotated[int, msgspec.Meta(ge=int(info.min), le=min(int(info.max), 2**63 - 1))]


class TensorBuilder:
    """Makes the inputs of a graph from rows of values, one for each column and of its type; None becomes NaN."""

    def __init__(self, metadata: ModelMetadata, columns: Sequence[Column]) -> None:
        first = metadata.inputs[0]
        # The usual case, a matrix of numbers, takes as long as NumPy does.
        is_matrix = len(metadata.inputs) == 1 and len(first.shape) == 2 and not DTYPES[first.dtype].is_text
        self._matrix = (first.name, DTYPES[first.dtype].numpy) if is_matrix else None
        self._inputs = metadata.inputs
        self._columns = columns

    def __call__(self, values: Sequence[Sequence[Any]]) -> Tensors:
        """The tensors of N rows."""
        if self._matrix is not None:
            name, dtype = self._matrix
            matrix = np.array(values, dtype)
            return {name: matrix if matrix.ndim == 2 else matrix.reshape(0, len(self._columns))}
        by_column = list(zip(*values, strict=True)) or [()] * len(self._columns)
        tensors: Tensors = {}
        start = 0
        for spec in self._inputs:
            stop = start + sum(1 for column in self._columns if column.input == spec.name)
            array = _array(by_column[start:stop], spec.dtype)
            tensors[spec.name] = array[0] if len(spec.shape) == 1 else np.ascontiguousarray(array.T)
            start = stop
        return tensors


def _array(values: Sequence[Sequence[Any]], dtype: str) -> NDArray[Any]:
    known = DTYPES[dtype]
    if not known.is_text:
        return np.array(values, known.numpy)
    return strings([value for row in values for value in row], (len(values), len(values[0]) if values else 0))


def to_values(tensors: Tensors, columns: Sequence[Column]) -> list[list[Any]]:
    """The rows of values in tensors that a `TensorBuilder` makes, as a person writes them; NaN becomes None."""
    names = list(dict.fromkeys(column.input for column in columns))
    arrays = [tensors[name].reshape(len(tensors[name]), -1) for name in names]
    rows = [[value for array in arrays for value in _as_written(array[row])] for row in range(len(arrays[0]))]
    return [[None if value != value else value for value in row] for row in rows]  # noqa: PLR0124 - NaN


def _as_written(values: NDArray[Any]) -> list[Any]:
    """Of a float32 the shortest number that means it: 5.1 and not 5.099999904632568."""
    if values.dtype in (np.float16, np.float32):
        return [float(str(value)) for value in values]
    found: list[Any] = values.tolist()
    return found
