"""Columns of an Arrow record batch as the rows that an engine takes, and what is wrong with the others.

A million rows a second leave no room for a Python object in each: everything here works on whole columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serving.batch.files import FilesError

FLOAT32_MAX = float(np.finfo(np.float32).max)
_OK, _MISSING, _NO_NUMBER, _NOT_FINITE, _TOO_LARGE = range(5)
_MEANING = {
    _MISSING: "the value is missing",
    _NO_NUMBER: "not a number",
    _NOT_FINITE: "not a finite number",
    _TOO_LARGE: "too large for a float32",
}
OVERFLOWED = 1
"""The fault of a row whose probabilities are not finite."""
_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True, slots=True)
class Rows:
    """What a batch of N rows is to an engine."""

    features: NDArray[np.float32]
    """`[M, F]`, the M ≤ N rows that can be predicted."""
    faults: NDArray[np.uint16]
    """`[N]`, 0 for those, else an index into `FeatureColumns.reasons`."""


class FeatureColumns:
    """The columns that hold the features, in the order of the model."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.reasons: list[str | None] = [None, "the values are too large for this model"]
        self._first = len(self.reasons) - 1  # plus the number of a meaning, which begins at 1
        self.reasons += [f"{name}: {meaning}" for name in names for meaning in _MEANING.values()]

    def read(self, batch: pa.RecordBatch) -> Rows:
        """The rows of `batch`. The first column that is wrong gives the reason of a row."""
        features = np.empty((batch.num_rows, len(self.names)), np.float32)
        faults = np.zeros(batch.num_rows, np.uint16)
        for index, name in enumerate(self.names):
            values, wrong = _numbers(batch.column(name))
            if wrong is not None:
                values = np.where(wrong == _OK, values, 0.0)
                new = (wrong != _OK) & (faults == 0)
                faults[new] = self._first + index * len(_MEANING) + wrong[new]
            features[:, index] = values
        return Rows(features[faults == 0] if faults.any() else features, faults)

    def explain(self, faults: NDArray[np.uint16]) -> pa.Array:
        """The reasons as strings `[N]`, null where there is none."""
        return pa.array(self.reasons, pa.string()).take(pa.array(faults))


def _numbers(column: pa.Array) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Floats `[N]` of any kind, and what is wrong with each, `None` when nothing is."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _parsed(column.cast(pa.string()))
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64(), safe=False)
    elif not pa.types.is_floating(kind):
        wrong = np.full(len(column), _NO_NUMBER, np.uint8)
        wrong[_is_null(column)] = _MISSING
        return np.zeros(len(column)), wrong
    # nulls become NaN, without a Python object
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    # the comparison is false for NaN
    if not len(values) or (values.min() >= -FLOAT32_MAX and values.max() <= FLOAT32_MAX):
        return values, None
    wrong = np.zeros(len(values), np.uint8)
    wrong[np.abs(values) > FLOAT32_MAX] = _TOO_LARGE
    wrong[~np.isfinite(values)] = _NOT_FINITE
    wrong[_is_null(column)] = _MISSING
    return values, wrong


def _parsed(column: pa.Array) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Numbers written as text."""
    try:
        return _numbers(column.cast(pa.float64()))  # quick, where every text is one
    except pa.ArrowInvalid:
        pass
    column = pc.utf8_trim_whitespace(column)
    reads = pc.match_substring_regex(column, _NUMBER).fill_null(False)
    empty = pc.equal(column, "").fill_null(True).to_numpy(zero_copy_only=False)
    named = pc.is_in(pc.utf8_lower(column), pa.array(["nan", "inf", "+inf", "-inf", "infinity", "-infinity"]))
    values, wrong = _numbers(pc.if_else(reads, column, None).cast(pa.float64()))
    if wrong is None:  # only white space was in the way
        return values, None
    wrong[~reads.to_numpy(zero_copy_only=False)] = _NO_NUMBER
    wrong[named.to_numpy(zero_copy_only=False)] = _NOT_FINITE
    wrong[empty] = _MISSING
    return values, wrong


def _is_null(column: pa.Array) -> NDArray[np.bool_]:
    return column.is_null().to_numpy(zero_copy_only=False)


def find_columns(available: Sequence[str], features: Sequence[str], named: Sequence[str], where: str) -> list[str]:
    """The columns of a file that hold `features`: those that are `named`, or that are called as the features are.

    A feature `sepal length (cm)` is also found as `sepal_length`, `Sepal.Length` or `sepal length`.

    Raises:
        FilesError: a column is missing, is there twice, or the wrong number of them is named.
    """
    if named:
        if len(named) != len(features):
            raise FilesError(f"{len(features)} columns are needed ({', '.join(features)}); {len(named)} are named")
        wanted = list(named)
    else:
        simple = {_simple(name): name for name in reversed(available)}
        wanted = [name if name in available else simple.get(_simple(name), name) for name in features]
    missing = [name for name in wanted if name not in available]
    if missing:
        raise FilesError(
            f"{where}: there is no column {', '.join(missing)}; it has {', '.join(available)}. Name them with --columns"
        )
    double = [name for name in wanted if list(available).count(name) > 1]
    if double:
        raise FilesError(f"{where}: there are several columns {double[0]}")
    return wanted


def _simple(name: str) -> str:
    """Without the unit, and with one sign between the words."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\(.*?\)|\[.*?\]", "", name.lower())).strip("_")
