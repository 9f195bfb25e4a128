"""What the values of a row mean: one rule for every kind of file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from serving.core.columns import FLOAT_MAX, Column, columns_of
from serving.core.numbers import read_value
from serving.core.tensors import STRING
from serving.store.models import ModelMetadata

_SWAPPED = str.maketrans(",.", ".,")


class Table(NamedTuple):
    """What the rows of a model are.

    Attributes:
        columns: in the order of the model.
        allow_nan: whether a missing number is a value.
        named: whether the names are the model's own, and not made of the name of its only input.
    """

    columns: Sequence[Column]
    allow_nan: bool
    named: bool = True

    @classmethod
    def of(cls, metadata: ModelMetadata) -> Table:
        columns = columns_of(metadata)
        named = bool(metadata.feature_names) or len(metadata.inputs) > 1 or len(columns) == 1
        return cls(columns, metadata.allow_nan, named)


def read_cells(cells: Sequence[Any], table: Table, names: Sequence[str], *, swaps: bool = False) -> list[Any]:
    """The values that JSON would have for the cells of a row, in the order of the model's columns.

    Args:
        cells: text, as in CSV, or what Parquet has.
        names: what the file calls the columns.
        swaps: whether numbers that are written as text have a decimal comma.

    Raises:
        ValueError: names the column, and says what is wrong with its value and what is expected.
    """
    values: list[Any] = []
    for cell, column, name in zip(cells, table.columns, names, strict=True):
        try:
            value = _read(cell, column.dtype, swaps=swaps)
        except ValueError as error:
            raise ValueError(f"{_shown(name, column)}: {error}") from None
        if value is None and not (table.allow_nan and column.dtype.startswith("float")):
            raise ValueError(f"{_shown(name, column)}: the value is missing; the model takes {column.dtype}")
        values.append(value)
    return values


def _shown(name: str, column: Column) -> str:
    return f"{column.name} (column {name})" if name.isdecimal() else name


def _read(cell: Any, dtype: str, *, swaps: bool) -> Any:
    if type(cell) is float and abs(cell) <= FLOAT_MAX.get(dtype, 0):
        return cell  # nearly all are
    if isinstance(cell, str):
        return read_value(cell.translate(_SWAPPED) if swaps and dtype != STRING else cell, dtype)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        if dtype != "bool":
            raise ValueError(f"{cell} is a boolean; the model takes {dtype}")
        return cell
    if isinstance(cell, int) or (isinstance(cell, float | Decimal) and dtype != STRING):
        # The text of a number is judged as everywhere.
        return read_value(str(cell), dtype)
    raise ValueError(f"the value is of type {type(cell).__name__}; the model takes {dtype}")
