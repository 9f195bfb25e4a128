"""The predictor of iris rows, with the stored model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serving.batch.iris import TOO_LARGE, IrisPredictor
from serving.batch.predictor import predictors
from serving.core.ranking import iris_answer
from serving.engines import IrisEngine
from serving.settings import Settings
from serving.store.models import open_model


@pytest.fixture(scope="module")
def predictor(model_store: Path) -> IrisPredictor:  # noqa: ARG001
    return IrisPredictor(open_model("iris:latest"))


def test_predictions_are_those_of_the_service_to_the_last_digit(predictor: IrisPredictor) -> None:
    rows = np.random.default_rng(3).uniform(0.1, 8, (500, 4)).round(3)
    found = predictor.predict([json.dumps(row) for row in rows.tolist()])
    engine = IrisEngine(open_model("iris:latest"))
    for row, text in zip(rows, found.texts, strict=True):
        (expected,) = json.loads(iris_answer(engine.predict(np.array([row], np.float32))))["prediction"]
        assert json.loads(text or "") == expected
    assert set(found.errors) == {None}
    assert set(found.labels) == {"setosa", "versicolor", "virginica"}


def test_bad_rows_fail_alone(predictor: IrisPredictor) -> None:
    values = [
        "[5.1,3.5,1.4,0.2]",
        "[1,2]",
        "nonsense",
        "[1,2,3,NaN]",
        "[6.7,3,5.2,2.3]",
        "[1,2,3,1e39]",
        "null",
        '"\ud800"',
    ]
    found = predictor.predict(values)
    assert [label for label in found.labels if label] == ["setosa", "virginica"]
    assert [index for index, error in enumerate(found.errors) if error is None] == [0, 4]
    assert [text is None for text in found.texts] == [error is not None for error in found.errors]
    assert all("4 finite numbers" in error for error in found.errors if error)


def test_what_overflows_inside_the_model_is_an_error(predictor: IrisPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(features: np.ndarray) -> np.ndarray:
        probabilities = np.full((len(features), 3), 1 / 3, np.float32)
        probabilities[1] = np.nan
        return probabilities

    monkeypatch.setattr(predictor._engine, "predict", overflow)
    found = predictor.predict(["[1,2,3,4]"] * 3)
    assert list(found.errors) == [None, TOO_LARGE, None]
    assert found.texts[1] is None


def test_only_enabled_models_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "iris" in predictors(Settings())
    monkeypatch.setenv("SERVING__IRIS__ENABLED", "false")
    assert "iris" not in predictors(Settings())
