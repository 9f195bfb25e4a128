"""From a fitted model to a case: converted as its users do it, with what it says of some rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from tests.matrix.cases import Case

Rows = NDArray[Any]
OPSETS = {"": 17, "ai.onnx.ml": 3}
# Single precision in the graph against double in the framework.
SINGLE, DOUBLE, HALF = 1e-5, 1e-12, 1e-2

_IRIS = load_iris()
FLOWERS: Rows = _IRIS.data.astype(np.float32)
KINDS: Rows = _IRIS.target
NAMES: Rows = np.array(_IRIS.target_names, object)[KINDS]
SIZES: Rows = FLOWERS @ np.array([1, 2, -1, 0.5], np.float32) + np.float32(1)
ROWS: Rows = FLOWERS[[0, 60, 70, 120, 149]]


def quietly(call: Callable[[], Any]) -> Any:
    """What `call` gives; frameworks and converters warn of each other's deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def convert(model: Any, given: Any, **options: Any) -> onnx.ModelProto:
    """The graph of a model of scikit-learn.

    Args:
        given: rows of its one matrix, or names and types of its inputs.
    """
    from skl2onnx import to_onnx

    types = {"initial_types": given} if isinstance(given, list) else {"X": given[:1]}
    return quietly(lambda: to_onnx(model, target_opset=OPSETS, **types, **options))


def classification(
    name: str,
    model: Any,
    graph: onnx.ModelProto,
    rows: Rows = ROWS,
    *,
    scores: str = "output_probability",
    options: Sequence[str] = (),
    labels: Sequence[Any] | None = None,
    tolerance: float = SINGLE,
    said: Rows | None = None,
    asked: Any = None,
) -> Case:
    """A classifier of one matrix that has probabilities.

    Args:
        labels: names of the classes; what the model calls them unless given.
        said: what the model says of each class, its probabilities unless given.
        asked: the rows as the framework takes them.
    """
    rows_of_framework = rows if asked is None else asked
    classes = [_text(each) for each in model.classes_]
    names = dict(zip(classes, map(str, labels or classes), strict=True))
    predicted = quietly(lambda: model.predict(rows_of_framework))
    return Case(
        name,
        graph,
        tuple(options),
        kind="rows",
        task="classification",
        inputs={graph.graph.input[0].name: rows},
        outputs={scores: model.predict_proba(rows_of_framework) if said is None else said},
        scores=scores,
        body={"data": as_json(rows)},
        labels=tuple(names.values()),
        predicted=tuple(names[_text(each)] for each in predicted),
        tolerance=tolerance,
    )


def _text(label: Any) -> str:
    """A class as a graph has it: of booleans there are numbers."""
    return str(int(label)) if isinstance(label, bool | np.bool_) else str(label)


def regression(
    name: str,
    model: Any,
    graph: onnx.ModelProto,
    rows: Rows = ROWS,
    *,
    tolerance: float = SINGLE,
    options: Sequence[str] = (),
    said: Rows | None = None,
) -> Case:
    """A regressor, or whatever else makes numbers of a row."""
    values = np.asarray(model.predict(rows) if said is None else said)
    output = graph.graph.output[0].name
    return Case(
        name,
        graph,
        tuple(options),
        kind="rows",
        task="regression",
        inputs={graph.graph.input[0].name: rows},
        outputs={output: values.reshape(len(rows), -1)},
        scores=output,
        body={"data": as_json(rows)},
        tolerance=tolerance,
    )


def raw(name: str, graph: onnx.ModelProto, outputs: dict[str, Rows], rows: Rows = ROWS, **changes: Any) -> Case:
    """A model of one matrix whose outputs are answered as they are."""
    return Case(
        name,
        graph,
        changes.pop("options", ()),
        kind="rows",
        task="raw",
        inputs={graph.graph.input[0].name: rows},
        outputs=outputs,
        body={"data": as_json(rows)},
        **changes,
    )


def as_json(rows: Rows) -> list[list[Any]]:
    """Rows as a caller writes them: a missing value is null."""
    found: list[list[Any]] = rows.tolist()
    return [[None if value != value else value for value in row] for row in found]  # noqa: PLR0124 - NaN


@cache
def mlp() -> Any:
    """A small network, of which graphs with other numbers are made."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(hidden_layer_sizes=(16,), max_iter=300, random_state=0)
    return quietly(lambda: model.fit(FLOWERS, NAMES))
