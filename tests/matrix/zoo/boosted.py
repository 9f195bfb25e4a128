"""XGBoost and LightGBM, converted by onnxmltools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import onnx
import xgboost

from tests.matrix.cases import Case
from tests.matrix.zoo.making import FLOWERS, KINDS, NAMES, ROWS, SIZES, classification, quietly, regression

_XGBOOST = {"n_estimators": 5, "max_depth": 3, "n_jobs": 1}
_LIGHTGBM = {"n_estimators": 5, "verbose": -1, "n_jobs": 1}


def _converted(model: Any, library: str, **options: Any) -> onnx.ModelProto:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    convert = getattr(onnxmltools, f"convert_{library}")
    types = [("features", FloatTensorType([None, 4]))]
    return quietly(lambda: convert(model, initial_types=types, target_opset=15, **options))


def xgboost_classifier() -> Case:
    model = xgboost.XGBClassifier(**_XGBOOST).fit(FLOWERS, KINDS)
    return classification("xgboost_classifier", model, _converted(model, "xgboost"), scores="probabilities")


def xgboost_of_two() -> Case:
    """Trained with missing values, and asked with some."""
    flowers, rows = FLOWERS.copy(), ROWS.copy()
    flowers[::3, 2] = flowers[1::4, 3] = rows[0, 2] = rows[3] = np.nan
    model = xgboost.XGBClassifier(**_XGBOOST).fit(flowers, (KINDS == 1).astype(int))
    graph = _converted(model, "xgboost")
    labels = ("other", "versicolor")
    options = ("--labels", ",".join(labels), "--allow-nan")
    return classification("xgboost_of_two", model, graph, rows, scores="probabilities", options=options, labels=labels)


def xgboost_regressor() -> Case:
    model = xgboost.XGBRegressor(**_XGBOOST).fit(FLOWERS, SIZES)
    return regression("xgboost_regressor", model, _converted(model, "xgboost"))


def lightgbm_classifier() -> Case:
    """With its ZipMap, and names as labels."""
    model = lightgbm.LGBMClassifier(**_LIGHTGBM).fit(FLOWERS, NAMES.astype(str))
    return classification("lightgbm_classifier", model, _converted(model, "lightgbm"), scores="probabilities")


def lightgbm_of_two() -> Case:
    model = lightgbm.LGBMClassifier(**_LIGHTGBM).fit(FLOWERS, np.where(KINDS == 1, 7, 5))
    graph = _converted(model, "lightgbm", zipmap=False)
    return classification("lightgbm_of_two", model, graph, scores="probabilities")


def lightgbm_regressor() -> Case:
    model = lightgbm.LGBMRegressor(**_LIGHTGBM).fit(FLOWERS, SIZES)
    return regression("lightgbm_regressor", model, _converted(model, "lightgbm"))


MAKE: dict[str, Callable[[], Case]] = {
    each.__name__: each
    for each in (
        *(xgboost_classifier, xgboost_of_two, xgboost_regressor),
        *(lightgbm_classifier, lightgbm_of_two, lightgbm_regressor),
    )
}
