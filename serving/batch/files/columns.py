"""Columns of an Arrow record batch as the tensors that an engine takes, and what is wrong with each row.

A million rows a second leave no time for a Python object for each number: whole columns are read at once where what
they hold is plain. The other rows go one by one through `read_cells` and the codec, as those of `serving batch load`
do. What is plain is accepted there as well, with the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.batch.files.parts import Batch
from serving.batch.reading.judge import Table, read_cells
from serving.codecs.rows import RowsCodec
from serving.core.columns import FLOAT_MAX
from serving.core.numbers import BLANKS, MISSING, NUMBER
from serving.core.tensors import DTYPES, STRING, Tensors
from serving.settings.models import ModelSettings
from serving.store.models import ModelMetadata, StoredModel

_WHOLE = r"-?(?:0|[1-9][0-9]{0,14})(?:\.0+)?"
"""Whole numbers that a float has exactly."""
_encode = msgspec.json.encode
_IS_SIGN = np.zeros(256, np.bool_)
_IS_SIGN[list(b"0123456789.-")] = True
_ZERO, _NINE, _POINT, _MINUS = b"09.-"
_Column = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""Values `[N]`, and which of them are plain: `None` where all are."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of N rows for an engine."""

    tensors: Tensors
    """The inputs of the M ≤ N rows that can be predicted."""
    number: int
    """M."""
    errors: NDArray[Any]
    """`[N]` of `str`, empty for those rows, else why not."""


class TableColumns:
    """The columns of a file that hold the columns of a model.

    Args:
        names: of the file's columns, in the order of the model's.
        metadata: of a model of rows.
        swaps: whether numbers that are written as text have a decimal comma.
    """

    def __init__(self, names: Sequence[str], metadata: ModelMetadata, *, swaps: bool = False) -> None:
        self.names = list(names)
        self._inputs = metadata.inputs
        self._table = Table.of(metadata)
        self._swaps = swaps
        self._codec = RowsCodec(StoredModel("", Path(), "", metadata), ModelSettings())

    def read(self, batch: Batch) -> Rows:
        """The rows of `batch`. The first column that is wrong gives the reason of a row."""
        number = batch.rows.num_rows
        errors = np.full(number, "", object)
        if batch.errors is not None:
            errors[:] = batch.errors
        if batch.values is not None:
            tensors, found = self._codec.read_rows(batch.values)
            errors[:] = [error or wrong or "" for error, wrong in zip(errors, found, strict=True)]
        else:
            columns = [_simple(batch.rows.column(name)) for name in self.names]
            tensors, plain = self._read_plain(columns, number)
            places = np.flatnonzero(~plain & (errors == ""))
            if len(places):
                self._read_others([column.take(pa.array(places)) for column in columns], places, tensors, errors)
        good = errors == ""
        if not good.all():
            tensors = {name: array[good] for name, array in tensors.items()}
        return Rows(tensors, int(np.count_nonzero(good)), errors)

    def _read_plain(self, columns: Sequence[pa.Array], number: int) -> tuple[Tensors, NDArray[np.bool_]]:
        tensors: Tensors = {}
        plain = np.ones(number, np.bool_)
        index = 0
        for spec in self._inputs:
            width = sum(column.input == spec.name for column in self._table.columns)
            matrix = np.empty((number, width), DTYPES[spec.dtype].numpy)
            for place in range(width):
                values, found = self._column(columns[index], spec.dtype)
                if found is not None:
                    plain &= found
                    values = np.where(found, values, "" if spec.dtype == STRING else 0)
                matrix[:, place] = values
                index += 1
            tensors[spec.name] = matrix[:, 0] if len(spec.shape) == 1 else matrix
        return tensors, plain

    def _read_others(
        self, columns: Sequence[pa.Array], places: NDArray[np.intp], tensors: Tensors, errors: NDArray[Any]
    ) -> None:
        """Put rows that are not plain into `tensors`, or what is wrong with them into `errors`."""
        texts: list[str] = []
        read: list[int] = []
        for place, cells in zip(places, zip(*(column.to_pylist() for column in columns), strict=True), strict=True):
            try:
                texts.append(_encode(read_cells(cells, self._table, self.names, swaps=self._swaps)).decode())
                read.append(place)
            except ValueError as error:
                errors[place] = str(error)
        if texts:
            found, wrong = self._codec.read_rows(texts)
            errors[read] = [error or "" for error in wrong]
            for name, array in found.items():
                tensors[name][read] = array

    def _column(self, column: pa.Array, dtype: str) -> _Column:
        kind = DTYPES[dtype].numpy.kind
        if dtype == STRING:
            return _texts(column)
        if kind == "b":
            return _booleans(column)
        gaps = None
        if _is_text(column.type) and self._swaps:
            column = pc.replace_substring(pc.replace_substring(column, ".", "x"), ",", ".")
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.string())
        if _is_text(column.type):
            column, gaps = _numbers(column, whole=kind != "f")
        elif not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
            return _none(column, np.zeros(len(column)))
        if kind == "f":
            return _floats(column, dtype, gaps, allow_nan=self._table.allow_nan)
        return _integers(column, dtype)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _simple(column: pa.Array) -> pa.Array:
    """Without a dictionary, and text as Arrow's plainest type of it."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if _is_text(column.type) else column


def _numbers(column: pa.Array, *, whole: bool) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    """Texts as numbers, null where they are none; and which say that one is missing, `None` where all are numbers."""
    kind = pa.int64() if whole else pa.float64()
    if not column.null_count and _may_be_numbers(column):
        try:
            return column.cast(kind), None
        except pa.ArrowInvalid:
            pass
    column = pc.utf8_trim(column, BLANKS)
    reads = pc.match_substring_regex(column, f"^(?:{_WHOLE if whole else NUMBER})$")
    missing = pc.is_in(pc.utf8_lower(column), pa.array(sorted(MISSING), pa.string())).fill_null(False)
    column = pc.if_else(reads, column, None)
    if whole:
        column = pc.replace_substring_regex(column, r"\.0+$", "")
    return column.cast(kind), missing.to_numpy(zero_copy_only=False)


def _may_be_numbers(column: pa.Array) -> bool:
    """Whether all texts are JSON's numbers without an exponent, provided that Arrow takes them for numbers.

    Arrow takes more for numbers: `nan`, `+1`, `007`, `.5`, `5.` and hexadecimal ones.
    """
    if not len(column):
        return True
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    if data is None or (bounds[1:] == bounds[:-1]).any():
        return False
    signs = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
    if not _IS_SIGN[signs].all():
        return False
    last = bounds[1:] - bounds[0] - 1
    first = bounds[:-1] - bounds[0]
    first = np.minimum(first + (signs[first] == _MINUS), last)
    second = signs[np.minimum(first + 1, last)]
    ends_well = (signs[first] >= _ZERO) & (signs[last] >= _ZERO)
    return bool((ends_well & ((signs[first] != _ZERO) | (second == _POINT) | (first == last))).all())


def _floats(column: pa.Array, dtype: str, gaps: NDArray[np.bool_] | None, *, allow_nan: bool) -> _Column:
    """Numbers within the bounds of `dtype`, and missing ones where they are values."""
    if not pa.types.is_floating(column.type) or pa.types.is_float16(column.type):
        column = column.cast(pa.float64(), safe=False)
    # nulls become NaN, without a Python object
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    most = FLOAT_MAX[dtype]
    # the comparison is false for NaN
    if not len(values) or (values.min() >= -most and values.max() <= most):
        return values, None
    plain = np.abs(values) <= most
    if allow_nan:
        plain |= np.isnan(values) if gaps is None else gaps
    return values, plain


def _integers(column: pa.Array, dtype: str) -> _Column:
    """Whole numbers within the bounds of `dtype`; those of floats as far as a float has them exactly."""
    info = np.iinfo(DTYPES[dtype].numpy)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        values = values.astype(np.float64)
        valid &= (np.abs(values) < 2.0**53) & (np.floor(values) == values)
        values = np.where(valid, values, 0).astype(np.int64)
    plain = valid & (values >= int(info.min)) & (values <= int(info.max))
    return np.where(plain, values, 0).astype(info.dtype), None if plain.all() else plain


def _booleans(column: pa.Array) -> _Column:
    if _is_text(column.type):
        column = pc.utf8_lower(column)
        true, known = pc.equal(column, "true"), pc.is_in(column, pa.array(["true", "false"]))
    elif pa.types.is_boolean(column.type):
        true, known = column, column.is_valid()
    else:
        return _none(column, np.zeros(len(column), np.bool_))
    return tuple(each.fill_null(False).to_numpy(zero_copy_only=False) for each in (true, known))


def _texts(column: pa.Array) -> _Column:
    values = np.full(len(column), "", object)
    if not _is_text(column.type):
        return _none(column, values)
    values[:] = column.to_pylist()
    return values, None if not column.null_count else column.is_valid().to_numpy(zero_copy_only=False)


def _none(column: pa.Array, values: NDArray[Any]) -> _Column:
    """A column in which nothing is plain."""
    return values, np.zeros(len(column), np.bool_)
