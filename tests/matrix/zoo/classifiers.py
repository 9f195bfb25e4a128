"""Classifiers of scikit-learn, with names, numbers and booleans as labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from tests.matrix.cases import Case
from tests.matrix.zoo.making import DOUBLE, FLOWERS, KINDS, NAMES, ROWS, classification, convert, mlp, quietly, raw

YES_OR_NO = np.where(KINDS == 1, "yes", "no").astype(object)
# One flower may be short and wide at once.
TRAITS = np.stack([FLOWERS[:, 0] < 6, FLOWERS[:, 1] > 3, KINDS == 2], axis=1).astype(int)

# With the ZipMap that skl2onnx adds unless it is told not to.
FITTED: dict[str, tuple[Callable[[], Any], Any]] = {
    "logistic": (partial(LogisticRegression, max_iter=500), NAMES),
    "forest": (partial(RandomForestClassifier, 5, random_state=0), KINDS + 3),
    "boosting": (partial(GradientBoostingClassifier, n_estimators=5, random_state=0), KINDS == 1),
    "histogram": (partial(HistGradientBoostingClassifier, max_iter=5), KINDS * 10 - 10),
    "neighbours": (partial(KNeighborsClassifier, 3), NAMES),
    "bayes": (GaussianNB, NAMES),
    "calibrated": (partial(CalibratedClassifierCV, LinearSVC(), cv=3), YES_OR_NO),
    "tree": (partial(DecisionTreeClassifier, max_depth=3, random_state=0), KINDS == 0),
    "one_vs_rest": (partial(OneVsRestClassifier, LogisticRegression()), NAMES),
}


def fitted(name: str) -> Case:
    make, target = FITTED[name]
    model = quietly(lambda: make().fit(FLOWERS, target))
    return classification(name, model, convert(model, ROWS))


def network() -> Case:
    return classification("network", mlp(), convert(mlp(), ROWS))


def without_zipmap() -> Case:
    """Names that are given to numbers."""
    model = LogisticRegression(max_iter=500).fit(FLOWERS, KINDS + 1)
    graph = convert(model, ROWS, options={"zipmap": False})
    names = ("red", "white", "rosé")
    options = ("--labels", ",".join(names))
    return classification("without_zipmap", model, graph, scores="probabilities", options=options, labels=names)


def zipmap_columns() -> Case:
    """A column for each class, which is an output of its own."""
    model = LogisticRegression(max_iter=500).fit(FLOWERS, NAMES)
    graph = convert(model, ROWS, options={"zipmap": "columns"})
    columns = {f"s{label}": column for label, column in zip(model.classes_, model.predict_proba(ROWS).T, strict=True)}
    return raw("zipmap_columns", graph, {"output_label": model.predict(ROWS), **columns})


def double_logistic() -> Case:
    """float64 in and out; ONNX Runtime's own ZipMap takes no float64."""
    rows, flowers = ROWS.astype(np.float64) + 0.01, FLOWERS.astype(np.float64)
    model = LogisticRegression(max_iter=500).fit(flowers, NAMES)
    return classification("double_logistic", model, convert(model, rows), rows, tolerance=DOUBLE)


def integers() -> Case:
    """int64 in."""
    counts = np.arange(80).reshape(20, 4)
    model = RandomForestClassifier(5, random_state=0).fit(counts, np.where(counts.sum(axis=1) > 160, "many", "few"))
    return classification("integers", model, convert(model, counts), counts[[0, 9, 19]])


def margins() -> Case:
    """A classifier without probabilities: its margins get a softmax, and the label is the highest."""
    model = SGDClassifier(random_state=0, alpha=1.0).fit(FLOWERS, NAMES)
    scores = model.decision_function(ROWS)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    case = classification("margins", model, convert(model, ROWS), said=scores)
    return case.with_probabilities(powers / powers.sum(axis=1, keepdims=True))


def one_margin() -> Case:
    """Of two classes there is one number, the margin of the second."""
    model = LinearSVC(random_state=0).fit(FLOWERS, YES_OR_NO)
    margin = model.decision_function(ROWS)[:, np.newaxis]
    likely = 1 / (1 + np.exp(-margin))
    case = classification("one_margin", model, convert(model, ROWS), scores="probabilities", said=margin)
    return case.with_probabilities(np.concatenate([1 - likely, likely], axis=1))


def votes() -> Case:
    """A support vector machine whose label need not have the highest probability: it is decided by votes."""
    model = quietly(lambda: SVC(probability=True, random_state=0, gamma=0.05).fit(FLOWERS, NAMES))
    rows = FLOWERS[[0, 60, 70, 77, 83, 120]]
    return classification("votes", model, convert(model, rows), rows)


def two_margins() -> Case:
    """The converter writes the margins of a binary SVC the wrong way round: answered as they are."""
    model = SVC().fit(FLOWERS, YES_OR_NO)
    margins = model.decision_function(ROWS)
    outputs = {"output_label": model.predict(ROWS), "output_probability": np.stack([margins, -margins], axis=1)}
    return raw("two_margins", convert(model, ROWS), outputs)


def several_labels() -> Case:
    """Each class is right or not."""
    model = OneVsRestClassifier(LogisticRegression()).fit(FLOWERS, TRAITS)
    graph = convert(model, ROWS, options={"zipmap": False})
    names = ("short", "wide", "virginica")
    return Case(
        "several_labels",
        graph,
        ("--labels", ",".join(names)),
        kind="rows",
        task="classification",
        inputs={"X": ROWS},
        outputs={"probabilities": model.predict_proba(ROWS)},
        scores="probabilities",
        body={"data": ROWS.tolist()},
        labels=names,
        predicted=tuple([names[index] for index in np.flatnonzero(row)] for row in model.predict(ROWS)),
    )


def several_targets() -> Case:
    """A label of its own kind for each target; the probabilities of each are an output."""
    target = np.stack([NAMES, np.where(KINDS > 0, "big", "small")], axis=1).astype(object)
    model = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(FLOWERS, target)
    first, second = model.predict_proba(ROWS)
    outputs = {"label": model.predict(ROWS), "probabilities_0": first, "probabilities_1": second}
    return raw("several_targets", convert(model, ROWS), outputs)


def several_labels_of_a_forest() -> Case:
    """The probabilities of all labels are stacked: an output for each is made of them."""
    model = RandomForestClassifier(5, random_state=0).fit(FLOWERS, TRAITS)
    graph = convert(model, ROWS, options={"zipmap": False})
    outputs = {f"probabilities_{index}": each for index, each in enumerate(model.predict_proba(ROWS))}
    return raw("several_labels_of_a_forest", graph, {"label": model.predict(ROWS), **outputs})


MAKE: dict[str, Callable[[], Case]] = {name: partial(fitted, name) for name in FITTED} | {
    each.__name__: each
    for each in (
        *(network, without_zipmap, zipmap_columns, double_logistic, integers, margins, one_margin, votes, two_margins),
        *(several_labels, several_labels_of_a_forest, several_targets),
    )
}
