"""Columns of an Arrow record batch as the tensors that an engine takes, and what is wrong with each row.

A million rows a second leave no time for a Python object for each number: everything here works on whole columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.batch.column_names import match_columns
from serving.batch.files import FilesError
from serving.core.columns import FLOAT_MAX, columns_of
from serving.core.tensors import DTYPES, NOT_FINITE, STRING, Tensors
from serving.store.models import ModelMetadata

_OK, _MISSING, _NAN, _NO_NUMBER, _NOT_FINITE, _TOO_LARGE, _NOT_WHOLE, _NO_BOOLEAN, _NO_TEXT = range(9)
_MEANING = {
    _MISSING: "the value is missing",
    _NAN: "not a finite number",
    _NO_NUMBER: "not a number",
    _NOT_FINITE: "not a finite number",
    _TOO_LARGE: "too large for {dtype}",
    _NOT_WHOLE: "not a whole number",
    _NO_BOOLEAN: "neither true nor false",
    _NO_TEXT: "not text",
}
OVERFLOWED = 1
"""The fault of a row whose outputs are not finite."""
REFUSED = 2
"""The fault of a row that the graph cannot compute."""
_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_Column = tuple[NDArray[Any], NDArray[np.uint8] | None]
"""Values `[N]`, and what is wrong with each: `None` where all are right."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of N rows for an engine."""

    tensors: Tensors
    """The inputs of the M ≤ N rows that can be predicted."""
    number: int
    """M."""
    faults: NDArray[np.uint32]
    """`[N]`, 0 for those rows, else an index into `TableColumns.reasons`."""


class TableColumns:
    """The columns of a file that hold the columns of a model.

    Args:
        names: of the file's columns, in the order of the model's.
        metadata: of a model of rows.
    """

    def __init__(self, names: Sequence[str], metadata: ModelMetadata) -> None:
        self.names = list(names)
        self._inputs = metadata.inputs
        self._columns = columns_of(metadata)
        self._allow_nan = metadata.allow_nan
        self.reasons: list[str | None] = [
            None,
            NOT_FINITE,
            "the model cannot compute these values",
        ]
        self._first = len(self.reasons) - 1  # plus the number of a meaning, which begins at 1
        self.reasons += [
            f"{name}: {meaning.format(dtype=_named(column.dtype))}"
            for name, column in zip(names, self._columns, strict=True)
            for meaning in _MEANING.values()
        ]

    def read(self, batch: pa.RecordBatch) -> Rows:
        """The rows of `batch`. The first column that is wrong gives the reason of a row."""
        tensors: Tensors = {}
        faults = np.zeros(batch.num_rows, np.uint32)
        index = 0
        for spec in self._inputs:
            width = sum(column.input == spec.name for column in self._columns)
            matrix = np.empty((batch.num_rows, width), DTYPES[spec.dtype].numpy)
            for place in range(width):
                values, wrong = self._read(batch.column(self.names[index]), spec.dtype)
                if wrong is not None:
                    values = np.where(wrong == _OK, values, "" if spec.dtype == STRING else 0)
                    new = (wrong != _OK) & (faults == 0)
                    faults[new] = self._first + index * len(_MEANING) + wrong[new]
                matrix[:, place] = values
                index += 1
            tensors[spec.name] = matrix[:, 0] if len(spec.shape) == 1 else matrix
        if faults.any():
            good = faults == 0
            tensors = {name: array[good] for name, array in tensors.items()}
        return Rows(tensors, batch.num_rows - int(np.count_nonzero(faults)), faults)

    def _read(self, column: pa.Array, dtype: str) -> _Column:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if dtype == STRING:
            return _texts(column)
        known = DTYPES[dtype]
        if known.numpy.kind == "b":
            return _booleans(column)
        if known.numpy.kind in "iu":
            return _integers(column, dtype)
        values, wrong = _floats(column, FLOAT_MAX[dtype])
        if wrong is not None and self._allow_nan:
            missing = (wrong == _MISSING) | (wrong == _NAN)
            values = np.where(missing, np.nan, values)
            wrong[missing] = _OK
        return values, wrong

    def explain(self, faults: NDArray[np.uint32]) -> pa.Array:
        """The reasons as strings `[N]`, null where there is none."""
        return pa.array(self.reasons, pa.string()).take(pa.array(faults))


def _named(dtype: str) -> str:
    return f"an {dtype}" if dtype[0] in "aeiou" and not dtype.startswith("uint") else f"a {dtype}"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _floats(column: pa.Array, most: float) -> _Column:
    """Numbers of any kind as floats; those above `most` are wrong."""
    kind = column.type
    if _is_text(kind):
        return _parsed(column.cast(pa.string()), most)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64(), safe=False)
    elif not pa.types.is_floating(kind):
        return _all_wrong(column, np.zeros(len(column)), _NO_NUMBER)
    # nulls become NaN, without a Python object
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    # the comparison is false for NaN
    if not len(values) or (values.min() >= -most and values.max() <= most):
        return values, None
    wrong = np.zeros(len(values), np.uint8)
    wrong[np.abs(values) > most] = _TOO_LARGE
    wrong[np.isinf(values)] = _NOT_FINITE
    wrong[np.isnan(values)] = _NAN
    wrong[_is_null(column)] = _MISSING
    return values, wrong


def _parsed(column: pa.Array, most: float) -> _Column:
    """Numbers that are written as text."""
    try:
        return _floats(column.cast(pa.float64()), most)  # quick, where every text is one
    except pa.ArrowInvalid:
        pass
    column = pc.utf8_trim_whitespace(column)
    reads = pc.match_substring_regex(column, _NUMBER).fill_null(False)
    empty = pc.equal(column, "").fill_null(True).to_numpy(zero_copy_only=False)
    lower = pc.utf8_lower(column)
    not_a_number = pc.equal(lower, "nan").fill_null(False)
    infinite = pc.is_in(lower, pa.array(["inf", "+inf", "-inf", "infinity", "-infinity"]))
    values, wrong = _floats(pc.if_else(reads, column, None).cast(pa.float64()), most)
    if wrong is None:  # only white space was in the way
        return values, None
    wrong[~reads.to_numpy(zero_copy_only=False)] = _NO_NUMBER
    wrong[infinite.to_numpy(zero_copy_only=False)] = _NOT_FINITE
    wrong[not_a_number.to_numpy(zero_copy_only=False)] = _NAN
    wrong[empty] = _MISSING
    return values, wrong


def _integers(column: pa.Array, dtype: str) -> _Column:
    """Whole numbers of any kind, within the bounds of `dtype`."""
    kind = column.type
    numpy = DTYPES[dtype].numpy
    info = np.iinfo(numpy)
    if _is_text(kind):
        try:  # exact, where every text is a whole number
            return _integers(column.cast(pa.int64()), dtype)
        except pa.ArrowInvalid:
            pass
    if pa.types.is_integer(kind):
        exact = column.fill_null(0).to_numpy(zero_copy_only=False) if column.null_count else column.to_numpy()
        wrong = np.zeros(len(exact), np.uint8)
        wrong[(exact < int(info.min)) | (exact > int(info.max))] = _TOO_LARGE
        wrong[_is_null(column)] = _MISSING
        right = wrong == _OK
        return np.where(right, exact, 0).astype(numpy), None if right.all() else wrong
    values, found = _floats(column, FLOAT_MAX["float64"])
    wrong = np.zeros(len(values), np.uint8) if found is None else found
    whole = np.where(wrong == _OK, values, 0.0)
    wrong[whole != np.floor(whole)] = _NOT_WHOLE
    # One more than the largest is a power of two, which a float has exactly.
    wrong[(whole < float(info.min)) | (whole >= float(info.max) + 1)] = _TOO_LARGE
    right = wrong == _OK
    return np.where(right, whole, 0.0).astype(numpy), None if right.all() else wrong


def _booleans(column: pa.Array) -> _Column:
    kind = column.type
    if pa.types.is_boolean(kind):
        true, false = column.fill_null(False), pc.invert(column).fill_null(False)
    elif _is_text(kind):
        text = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
        true, false = (pc.is_in(text, pa.array(words)) for words in (["true", "1"], ["false", "0"]))
    elif pa.types.is_integer(kind):
        true, false = (pc.equal(column, pa.scalar(value, kind)).fill_null(False) for value in (1, 0))
    else:
        return _all_wrong(column, np.zeros(len(column), np.bool_), _NO_BOOLEAN)
    values: NDArray[Any] = true.to_numpy(zero_copy_only=False)
    wrong = np.where(values | false.to_numpy(zero_copy_only=False), _OK, _NO_BOOLEAN).astype(np.uint8)
    wrong[_is_null(column)] = _MISSING
    return values, wrong if wrong.any() else None


def _texts(column: pa.Array) -> _Column:
    """Strings as `str`; whole numbers are written as text."""
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    elif not _is_text(column.type):
        return _all_wrong(column, np.full(len(column), "", object), _NO_TEXT)
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    if not column.null_count:
        return values, None
    return values, np.where(_is_null(column), _MISSING, _OK).astype(np.uint8)


def _all_wrong(column: pa.Array, values: NDArray[Any], fault: int) -> _Column:
    """A column of something else."""
    wrong = np.full(len(column), fault, np.uint8)
    wrong[_is_null(column)] = _MISSING
    return values, wrong


def _is_null(column: pa.Array) -> NDArray[np.bool_]:
    return column.is_null().to_numpy(zero_copy_only=False)


def find_columns(available: Sequence[str], wanted: Sequence[str], named: Sequence[str], where: str) -> list[str]:
    """The columns of a file that hold the `wanted` columns of a model: those that are `named`, else those of the names.

    Raises:
        FilesError: a column is missing, is there twice, or the wrong number of them is named.
    """
    if named and len(named) != len(wanted):
        raise FilesError(f"{len(wanted)} columns are needed ({', '.join(wanted)}); {len(named)} are named")
    found = list(named) or match_columns(available, wanted)
    missing = [name for name in found if name not in available]
    if missing:
        raise FilesError(
            f"{where}: there is no column {', '.join(missing)}; it has {', '.join(available)}. Name them with --columns"
        )
    double = [name for name in found if list(available).count(name) > 1]
    if double:
        raise FilesError(f"{where}: there are several columns {double[0]}")
    return found
