"""Arrays of what the standard protocols take and of what models answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.client.description import Description, Tensor
from serving.client.inputs import Inputs
from serving.client.predictions import Prediction
from serving.core.columns import Column, columns_of
from serving.core.tensors import BYTES, DTYPES, STRING, strings

Arrays = dict[str, NDArray[Any]]


def to_arrays(inputs: Inputs, description: Description) -> Arrays:
    """The inputs by name, with the dtypes that the model takes. The server judges their shapes.

    Raises:
        ValueError: a value is not of the dtype, or a name is not the model's.
    """
    try:
        return _to_arrays(inputs, description)
    except ValueError as error:
        raise ValueError(f"the inputs cannot be sent: {error}") from error


def _to_arrays(inputs: Inputs, description: Description) -> Arrays:
    if inputs.images:
        (spec,) = description.protocol_inputs
        return {spec.name: strings(inputs.images)}
    if inputs.rows:
        return _table(inputs.rows, description)
    specs = {spec.name: spec for spec in description.inputs}
    for name in inputs.tensors:
        if name not in specs:
            raise ValueError(f"there is no input {name}; the model {description.name} has {', '.join(specs)}")
    return {name: _array(value, specs[name]) for name, value in inputs.tensors.items()}


def _table(rows: Sequence[Any], description: Description) -> Arrays:
    columns = columns_of(description)
    values = [_values(row, columns, f"rows[{index}]") for index, row in enumerate(rows)]
    if len(description.inputs) == 1 and len(description.inputs[0].shape) == 2:
        (spec,) = description.inputs
        return {spec.name: _array(values, spec)}
    for index, row in enumerate(values):
        if len(row) != len(columns):
            raise ValueError(f"rows[{index}]: {len(columns)} values are required, not {len(row)}")
    found: Arrays = {}
    for spec in description.inputs:
        places = [place for place, column in enumerate(columns) if column.input == spec.name]
        matrix = _array([[row[place] for place in places] for row in values], spec)
        found[spec.name] = matrix[:, 0] if len(spec.shape) == 1 else matrix
    return found


def _values(row: Any, columns: Sequence[Column], place: str) -> list[Any]:
    """The values of a list or a record in the order of the columns."""
    if not isinstance(row, Mapping):
        return list(row)
    names = [column.name for column in columns]
    if row.keys() != set(names):
        wrong = sorted(map(str, row.keys() ^ set(names)))
        raise ValueError(f"{place}: {wrong[0]}: the columns are {', '.join(names)}")
    return [row[name] for name in names]


def _array(value: Any, spec: Tensor) -> NDArray[Any]:
    """`value` as an array of the dtype of `spec`, without a change of any value but the rounding of floats."""
    dtype = DTYPES[spec.dtype]
    try:
        given = np.asarray(value, object if dtype.is_text else None)
        if dtype.is_text:
            return _text(given, spec)
        if given.dtype.kind == "O" and dtype.is_float:  # None is a missing value
            given = given.astype(np.float64)
        if given.dtype.kind not in ("b" if dtype.numpy.kind == "b" else "iuf"):
            raise ValueError(f"{spec.name}: values of {spec.dtype} are required")
        with np.errstate(over="ignore", invalid="ignore"):  # the server refuses what becomes infinite
            array = given.astype(dtype.numpy)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{spec.name}: values of {spec.dtype} are required: {error}") from error
    if not dtype.is_float and not np.array_equal(array, given):
        raise ValueError(f"{spec.name}: a value does not fit into {spec.dtype}")
    return array


def _text(given: NDArray[Any], spec: Tensor) -> NDArray[Any]:
    """Text as `str`, files as `bytes`."""
    values = given.ravel().tolist()
    for value in values:
        if not isinstance(value, bytes if spec.dtype == BYTES else str | bytes):
            raise ValueError(f"{spec.name}: texts are required, not {type(value).__name__}")
    if spec.dtype == STRING:
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    return strings(values, given.shape)


def from_lists(value: Any, spec: Tensor) -> NDArray[Any]:
    """Nested lists of an answer; null is NaN. Raises ValueError where they are not of the dtype."""
    return np.array(value, DTYPES[spec.dtype].numpy)


def split(outputs: Mapping[str, NDArray[Any]], rows: int) -> list[Prediction]:
    """A prediction for each row of outputs whose first dimension is the rows."""
    return [Prediction(outputs={name: array[row] for name, array in outputs.items()}) for row in range(rows)]


def to_predictions(outputs: Arrays, description: Description, inputs: Inputs) -> list[Prediction]:
    """Of a regression or of raw tensors, from `Description.wanted` as arrays."""
    if inputs.tensors:
        return [Prediction(outputs=outputs)]
    if description.task == "regression":
        values = outputs[description.scores]
        flat = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        return [Prediction(value=value) for value in flat.tolist()]
    return split(outputs, len(inputs.rows) or len(inputs.images))
