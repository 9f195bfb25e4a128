"""Regressors and what else makes numbers of a row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from tests.matrix.cases import Case
from tests.matrix.zoo.making import DOUBLE, FLOWERS, ROWS, SIZES, convert, regression

DOUBLES, DOUBLE_ROWS = FLOWERS.astype(np.float64), ROWS.astype(np.float64) + 0.01


def linear() -> Case:
    model = LinearRegression().fit(DOUBLES, SIZES)
    return regression("linear", model, convert(model, DOUBLE_ROWS), DOUBLE_ROWS, tolerance=DOUBLE)


def forest_of_numbers() -> Case:
    model = RandomForestRegressor(5, random_state=0).fit(FLOWERS, SIZES)
    return regression("forest_of_numbers", model, convert(model, ROWS))


def support_vectors() -> Case:
    model = SVR().fit(FLOWERS, SIZES)
    return regression("support_vectors", model, convert(model, ROWS))


def histogram_of_numbers() -> Case:
    model = HistGradientBoostingRegressor(max_iter=5).fit(FLOWERS, SIZES)
    return regression("histogram_of_numbers", model, convert(model, ROWS))


def gaussian_process() -> Case:
    model = GaussianProcessRegressor(alpha=0.1).fit(DOUBLES, SIZES)
    # Sums of exponentials in another order.
    return regression("gaussian_process", model, convert(model, DOUBLE_ROWS), DOUBLE_ROWS, tolerance=1e-9)


def three_numbers() -> Case:
    model = MultiOutputRegressor(Ridge()).fit(FLOWERS, np.stack([SIZES, -SIZES, SIZES * 2], axis=1))
    return regression("three_numbers", model, convert(model, ROWS))


def counted() -> Case:
    """int64 in, numbers out."""
    counts = np.arange(40).reshape(10, 4)
    model = LinearRegression().fit(counts, counts @ [1, 0, 2, 0])
    return regression("counted", model, convert(model, counts), counts[[0, 4, 9]])


def projection() -> Case:
    model = make_pipeline(StandardScaler(), PCA(2)).fit(FLOWERS)
    return regression("projection", model, convert(model, ROWS), said=model.transform(ROWS))


MAKE: dict[str, Callable[[], Case]] = {
    each.__name__: each
    for each in (
        *(linear, forest_of_numbers, support_vectors, histogram_of_numbers, gaussian_process, three_numbers, counted),
        projection,
    )
}
