"""Rows of iris measurements: `values` is a list of four numbers, and the prediction what `/iris/predict` answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.batch.predictor import Predictions
from serving.engines import IrisEngine
from serving.store.models import StoredModel

_FLOAT32_MAX = 3.4028234663852886e38
_Number = Annotated[float, msgspec.Meta(ge=-_FLOAT32_MAX, le=_FLOAT32_MAX)]
Row = tuple[_Number, _Number, _Number, _Number]
_decode = msgspec.json.Decoder(Row).decode
_encode = msgspec.json.encode

TOO_LARGE = "the values are too large for this model"


def check_row(text: str | bytes) -> str | None:
    """What is wrong with the JSON of a row; `None` when it can be scored."""
    try:
        _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _explain(error)
    return None


class IrisPredictor:
    """Raises ModelError when the stored model cannot be loaded."""

    # 16 MB of measurements and as much again of probabilities: nothing beside the text of the rows.
    most_rows = 1_000_000

    def __init__(self, model: StoredModel, *, threads: int = 1) -> None:
        self.tag = model.tag
        self._labels = model.metadata.labels
        self._engine = IrisEngine(model, threads=threads)

    def predict(self, values: Sequence[str]) -> Predictions:
        errors: list[str | None] = [None] * len(values)
        try:
            rows = list(map(_decode, values))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            rows = self._decode_one_by_one(values, errors)
        return self._score(np.array(rows, np.float32).reshape(-1, 4), errors)

    def _score(self, features: NDArray[np.float32], errors: list[str | None]) -> Predictions:
        """float32 `[N, 4]`; a row that has an error already is scored in vain, so that all keep their places."""
        probabilities = self._engine.predict(features)
        finite = np.isfinite(probabilities).all(axis=1)
        if not finite.all():
            for index in np.flatnonzero(~finite).tolist():
                errors[index] = errors[index] or TOO_LARGE
        texts: list[str | None] = [_encode(row).decode() for row in probabilities.tolist()]
        labels: list[str | None] = [self._labels[index] for index in probabilities.argmax(axis=1).tolist()]
        for index, error in enumerate(errors):
            if error is not None:
                texts[index] = labels[index] = None
        return Predictions(texts, labels, errors)

    @staticmethod
    def _decode_one_by_one(values: Sequence[str], errors: list[str | None]) -> list[Row]:
        rows: list[Row] = []
        for index, text in enumerate(values):
            try:
                rows.append(_decode(text))
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                rows.append((0.0, 0.0, 0.0, 0.0))
                errors[index] = _explain(error)
        return rows


def _explain(error: Exception) -> str:
    return f"values: a list of 4 finite numbers is required: {error}"
