"""Clusterers and outlier detectors: a label and scores that are no probabilities of it, answered as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from tests.matrix.cases import Case
from tests.matrix.zoo.making import FLOWERS, ROWS, Rows, convert, raw

# Distances are roots of differences of large squares.
DISTANCES = 1e-3
# The last is far from all flowers.
CHECKED: Rows = np.concatenate([ROWS[:3], np.array([[30.0, 1.0, 9.0, 8.0]], np.float32)])


def _clusters(name: str, model: Any) -> Case:
    model.fit(FLOWERS)
    outputs = {"label": model.predict(ROWS), "scores": model.transform(ROWS)}
    return raw(name, convert(model, ROWS), outputs, tolerance=DISTANCES)


def clusters() -> Case:
    return _clusters("clusters", KMeans(3, n_init=1, random_state=0))


def two_clusters() -> Case:
    return _clusters("two_clusters", make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)))


def clusters_of_batches() -> Case:
    return _clusters("clusters_of_batches", MiniBatchKMeans(3, n_init=1, random_state=0))


def mixture() -> Case:
    """Clusters with probabilities, which are those of classes."""
    model = GaussianMixture(2, random_state=0).fit(FLOWERS)
    labels = ("class_0", "class_1")
    return Case(
        "mixture",
        convert(model, ROWS),
        (),
        kind="rows",
        task="classification",
        inputs={"X": ROWS},
        outputs={"probabilities": model.predict_proba(ROWS)},
        scores="probabilities",
        body={"data": ROWS.tolist()},
        labels=labels,
        predicted=tuple(labels[index] for index in model.predict(ROWS)),
    )


def _outliers(name: str, model: Any) -> Case:
    model.fit(FLOWERS)
    said = model.predict(CHECKED)
    assert set(said) == {-1, 1}
    outputs = {"label": said[:, np.newaxis], "scores": model.decision_function(CHECKED)[:, np.newaxis]}
    return raw(name, convert(model, CHECKED), outputs, CHECKED)


def isolation_forest() -> Case:
    return _outliers("isolation_forest", IsolationForest(n_estimators=5, random_state=0))


def one_class() -> Case:
    return _outliers("one_class", OneClassSVM(nu=0.2))


def local_outliers() -> Case:
    return _outliers("local_outliers", LocalOutlierFactor(novelty=True))


MAKE: dict[str, Callable[[], Case]] = {
    each.__name__: each
    for each in (clusters, two_clusters, clusters_of_batches, mixture, isolation_forest, one_class, local_outliers)
}
