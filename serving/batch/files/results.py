"""Outputs of a model as the columns that the rows of a file get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.reading import FilesError
from serving.codecs.answers import LIKELY, Answers
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES, Tensors
from serving.store.models import ModelMetadata

TAG = "model_tag"
ERROR = "error"


class Results:
    """The columns that score-files adds for a model of rows.

    A classification adds `probabilities`, a list, and `label` (a list of labels where several may be right); a
    regression adds `prediction`, a number or a list; other models add a column for each output. All add `model_tag` and
    `error`.

    Attributes:
        names: of the columns that are added.

    Raises:
        FilesError: an output has the name of another column that is added.
    """

    def __init__(self, metadata: ModelMetadata, tag: str) -> None:
        self._metadata = metadata
        self._tag = tag
        self._answers = Answers(metadata)
        self.names = [*self._outputs_named(), TAG, ERROR]
        if len(set(self.names)) < len(self.names):
            raise FilesError(f"model {tag} has an output {TAG} or {ERROR}, which is a column that score-files adds")

    def _outputs_named(self) -> list[str]:
        if self._metadata.task == "classification":
            return ["probabilities", "label"]
        if self._metadata.task == "regression":
            return ["prediction"]
        return [spec.name for spec in self._metadata.outputs]

    def empty(self) -> Tensors:
        """Outputs for no rows."""
        return {spec.name: self._empty(spec) for spec in self._metadata.outputs}

    def _empty(self, spec: TensorSpec) -> NDArray[Any]:
        # Activations need a length; the rank and the dtype are what the type of a column depends on.
        inner = [length or max(1, len(self._metadata.labels)) for length in spec.inner_shape]
        return np.empty((0, *inner), DTYPES[spec.dtype].numpy)

    def finite(self, outputs: Tensors) -> NDArray[np.bool_] | None:
        """Which of the M rows have finite outputs only; `None` when all have."""
        if self._metadata.allow_nan:
            return None
        found: NDArray[np.bool_] | None = None
        for spec in self._metadata.outputs:
            if self._metadata.task != "raw" and spec.name != self._metadata.scores:
                continue
            array = outputs[spec.name]
            if array.dtype.kind == "f" and array.size and (good := _finite_rows(array)) is not None:
                found = good if found is None else found & good
        return found

    def check(self, columns: Sequence[str], where: str) -> None:
        """Raises FilesError when a column of the input has the name of one that is added."""
        taken = [name for name in self.names if name in columns]
        if taken:
            raise FilesError(f"{where}: there is a column {', '.join(taken)} already, which is what score-files adds")

    def add(self, batch: pa.RecordBatch, outputs: Tensors, errors: pa.Array) -> pa.RecordBatch:
        """`batch` of N rows with the columns `names`; `outputs` are those of the M rows whose error is null."""
        good = errors.is_null().to_numpy(zero_copy_only=False)
        same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.num_rows, np.int32)), pa.array([self._tag]))
        columns = [*self._columns(outputs, good), same, errors]
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], names=[*batch.schema.names, *self.names])

    def _columns(self, outputs: Tensors, good: NDArray[np.bool_]) -> list[pa.Array]:
        if self._metadata.task == "classification":
            probabilities = self._answers.probabilities(outputs)
            return [_column(probabilities, good), self._labels(outputs, probabilities, good)]
        if self._metadata.task == "regression":
            values = outputs[self._metadata.scores]
            return [_column(values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values, good)]
        return [_column(outputs[spec.name], good) for spec in self._metadata.outputs]

    def _labels(self, outputs: Tensors, probabilities: NDArray[Any], good: NDArray[np.bool_]) -> pa.Array:
        labels = pa.array(self._metadata.labels, pa.string())
        if self._metadata.multilabel:
            likely = probabilities >= LIKELY
            return _lists(labels.take(pa.array(np.nonzero(likely)[1])), likely.sum(axis=1), good)
        place = np.zeros(len(good), np.int32)
        place[good] = self._answers.class_ids(outputs)
        return pa.DictionaryArray.from_arrays(pa.array(place, mask=~good), labels)


def _finite_rows(array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which rows of `[M, …]` are finite; `None` when all are."""
    rows = array.reshape(len(array), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        good: NDArray[np.bool_] = np.isfinite(rows.sum(axis=1))  # a sum is not finite when a number is not
    if good.all():
        return None
    good[~good] = np.isfinite(rows[~good]).all(axis=1)
    return None if good.all() else good


def _column(values: NDArray[Any], good: NDArray[np.bool_]) -> pa.Array:
    """Values `[M, …]` of the good ones of N rows as a column `[N]`: of numbers, or of lists of the values' rank."""
    flat = values.reshape(-1)
    column = pa.array(flat.tolist(), pa.string()) if values.dtype == object else pa.array(flat)
    if values.ndim == 1:
        places = np.zeros(len(good), np.int64)
        places[good] = np.arange(len(values))
        return column.take(pa.array(places, mask=~good))
    for axis in range(values.ndim - 1, 1, -1):
        length = values.shape[axis]
        offsets = np.arange(int(np.prod(values.shape[:axis])) + 1, dtype=np.int32) * length
        column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), column)
    return _lists(column, values.shape[1], good)


def _lists(items: pa.Array, lengths: int | NDArray[Any], good: NDArray[np.bool_]) -> pa.Array:
    """A column of lists, null where a row is not good; `lengths` are those of the good ones."""
    sizes = np.zeros(len(good), np.int64)
    sizes[good] = lengths
    offsets = np.zeros(len(good) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), items, mask=pa.array(~good))
