"""What comes out of a model, by its task, in forms that JSON has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.codecs.base import RowAnswers, encode
from serving.core.errors import InvalidInputError
from serving.core.ranking import most_probable, to_probabilities
from serving.core.signature import Signature
from serving.core.tensors import NOT_FINITE, Tensors, first_not_finite, rows
from serving.store.models import ModelMetadata

LIKELY = 0.5
"""Where several classes may be right, those of at least this probability are named."""


class Answers:
    """Reads outputs of one model."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self._metadata = metadata
        self._labels = metadata.labels
        # The usual case costs nothing: the graph gives the probabilities of all classes.
        self._are_probabilities = metadata.activation == "none" and len(_inner(metadata)) == 1
        self._scores = metadata.scores
        self._classifies = metadata.task == "classification"
        self._allow_nan = metadata.allow_nan
        self._label_output = metadata.label_output
        self._class_ids = {value: class_id for class_id, value in enumerate(metadata.label_values)}

    def probabilities(self, outputs: Tensors) -> NDArray[Any]:
        """Of a classification, `[N, classes]`."""
        scores = outputs[self._scores]
        if self._are_probabilities and (len(self._labels) != 2 or scores.shape[-1] == 2):
            return scores
        return to_probabilities(scores, self._metadata.activation, len(self._labels))

    def predictions(self, outputs: Tensors, place: str) -> list[Any]:
        """For each row the probabilities of a classification, or the number or numbers of a regression.

        Raises:
            InvalidInputError: a row is not finite: its values overflowed inside the model.
        """
        found = self.values(outputs)
        if self._allow_nan:
            return found
        if not _have_finite_sum(found):
            row = first_not_finite({self._scores: outputs[self._scores]})
            if row is not None:
                raise InvalidInputError(f"{place}[{row}]: {NOT_FINITE}")
        return found

    def values(self, outputs: Tensors) -> list[Any]:
        """As `predictions`, whether they are finite or not."""
        if self._classifies:
            found: list[Any] = self.probabilities(outputs).tolist()
            return found
        values = outputs[self._scores]
        return list((values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values).tolist())

    def class_ids(self, outputs: Tensors) -> NDArray[np.int64]:
        """Of a classification, the class of each row, `[N]`: what the graph says where it says one.

        That need not be the class with the highest probability: a support vector machine votes for its class.
        """
        highest = self.probabilities(outputs).argmax(axis=1)
        if not self._label_output:
            return highest
        said = outputs[self._label_output].ravel().tolist()
        known = self._class_ids
        pairs = zip(said, highest.tolist(), strict=True)
        return np.array([known.get(str(value), class_id) for value, class_id in pairs], np.int64)

    def most_probable(self, outputs: Tensors) -> list[str]:
        """Of a classification, the label of each row; see `class_ids`."""
        if self._label_output:
            return [self._labels[class_id] for class_id in self.class_ids(outputs).tolist()]
        return most_probable(self.probabilities(outputs), self._labels)

    def labels(self, outputs: Tensors) -> list[Any]:
        """Of a classification, the label of each row; where several may be right, the list of those that are likely."""
        if not self._metadata.multilabel:
            return list(self.most_probable(outputs))
        likely = self.probabilities(outputs) >= LIKELY
        return [[self._labels[index] for index in np.flatnonzero(row)] for row in likely]


def _have_finite_sum(rows: list[Any]) -> bool:
    """False where a value is not finite, and where a sum is too large; for few rows this is quicker than NumPy."""
    if not rows or not isinstance(rows[0], list):
        return math.isfinite(sum(rows))
    is_matrix = not rows[0] or not isinstance(rows[0][0], list)
    return is_matrix and math.isfinite(sum(map(sum, rows)))


def tensors_json(outputs: Tensors) -> dict[str, Any]:
    """Outputs as nested lists by name; NaN and infinity become null."""
    return {name: array.tolist() for name, array in outputs.items()}


def row_answers(outputs: Tensors, predictions: list[Any], labels: list[Any], *, allow_nan: bool) -> RowAnswers:
    """For each row its prediction and label as they are written beside it; rows that are not finite fail alone.

    Args:
        outputs: where numbers that are not finite are looked for.
        predictions: one for each row, as JSON has them.
        labels: one for each row; empty where there are none.
    """
    number = len(predictions)
    texts: list[str | None] = [encode(prediction).decode() for prediction in predictions]
    names: list[str | None] = [_text(label) for label in labels[:number]] if labels else [None] * number
    errors: list[str | None] = [None] * number
    for index in () if allow_nan else _not_finite(outputs):
        texts[index] = names[index] = None
        errors[index] = NOT_FINITE
    return RowAnswers(texts, names, errors)


def tensor_rows(outputs: Tensors, signature: Signature) -> list[dict[str, Any]]:
    """The outputs of each row as nested lists by name; all of them at once where there are no rows."""
    if not signature.has_rows:
        return [tensors_json(outputs)]
    number = len(next(iter(outputs.values())))
    return [
        {name: array[0].tolist() if array.dtype != object else array.tolist()[0] for name, array in row.items()}
        for row in (rows(outputs, index, index + 1) for index in range(number))
    ]


def _not_finite(outputs: Tensors) -> set[int]:
    bad: set[int] = set()
    for array in outputs.values():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            if array.ndim == 0:
                return {0}
            finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            bad.update(np.flatnonzero(~finite).tolist())
    return bad


def _text(label: Any) -> str:
    return label if isinstance(label, str) else encode(label).decode()


def _inner(metadata: ModelMetadata) -> list[int | None]:
    return metadata.scores_spec.inner_shape if metadata.task == "classification" else []
