"""Tables: classifiers and regressors of scikit-learn and others, compared with what they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from serving.core.errors import InvalidInputError, ModelError
from tests.add import graphs
from tests.add.graphs import Asked, add, from_sklearn

pytestmark = pytest.mark.usefixtures("bentoml_home")
WINE = load_wine()
ROWS = WINE.data[[0, 60, 150]].astype(np.float32)
DATA = {"data": ROWS.astype(float).tolist()}
FRAME = pd.DataFrame(
    {
        "age": [31.0, 45.0, 22.0, 60.0],
        "income": [3.0, 4.0, 5.5, 6.0],
        "city": ["Bern", "Zürich", "Genf", "Bern"],
        "plan": ["basic", "pro", "basic", "pro"],
    }
)


def wine(target: Any = None) -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(WINE.data, WINE.target if target is None else target)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_classifier_with_and_without_zipmap(tmp_path: Path, zipmap: bool, named: bool) -> None:
    model = wine(WINE.target_names[WINE.target] if named else None)
    proto = from_sklearn(model, X=ROWS[:1], options={} if zipmap else {"zipmap": False})
    added, stored = add(proto, tmp_path)
    metadata = stored.metadata
    assert (metadata.kind, metadata.task, metadata.batching, metadata.activation) == (
        "rows",
        "classification",
        "free",
        "none",
    )
    assert metadata.labels == (["class_0", "class_1", "class_2"] if named else ["0", "1", "2"])
    assert any("ZipMap" in reason.decided for reason in added.reasons) == zipmap
    asked = Asked(stored)
    assert np.allclose(asked.predict(DATA)["prediction"], model.predict_proba(ROWS), atol=1e-5)
    assert asked.label(DATA) == [str(label) for label in model.predict(ROWS)]
    specs = {spec.name: spec for spec in metadata.outputs}
    assert [specs[metadata.scores].shape, specs[metadata.scores].dtype] == [[None, 3], "float32"]


def test_labels_and_features_of_options(tmp_path: Path) -> None:
    proto = from_sklearn(wine(), X=ROWS[:1])
    _, stored = add(proto, tmp_path, labels=["red", "white", "rose"], features=WINE.feature_names)
    asked = Asked(stored)
    record = dict(zip(reversed(WINE.feature_names), reversed(DATA["data"][1]), strict=True))
    assert asked.label({"data": [record]}) == [["red", "white", "rose"][int(wine().predict(ROWS[1:2])[0])]]
    for changes, message in (
        ({"labels": ["a", "b"]}, "--labels: 2 names, and output_probability has 3 classes"),
        ({"features": ["a", "b"]}, "--features: 2 names for 13 columns"),
        ({"features": ["a"] * 13}, "a name occurs twice"),
        ({"scores": "other"}, "--scores other: the outputs are output_label, output_probability"),
        ({"kind": "image"}, "a model of images has one input"),
        ({"task": "regression", "labels": ["a", "b", "c"]}, "--labels is of no use"),
        ({"name": "jobs"}, "/jobs is a route"),
        ({"name": "Wine"}, "small letters"),
        ({"version": "latest"}, "leave out the version"),
    ):
        with pytest.raises(ModelError, match=message):
            add(proto, tmp_path, **changes)


def mixed() -> tuple[Any, Any]:
    encode = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("n", StandardScaler(), ["age", "income"]), ("c", encode, ["city", "plan"])])
    model = make_pipeline(columns, LogisticRegression()).fit(FRAME, ["no", "yes", "no", "yes"])
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    types = [FloatTensorType([None, 1])] * 2 + [StringTensorType([None, 1])] * 2
    return model, from_sklearn(model, initial_types=list(zip(FRAME.columns, types, strict=True)))


def test_a_column_transformer_takes_numbers_and_strings(tmp_path: Path) -> None:
    model, proto = mixed()
    added, stored = add(proto, tmp_path)
    assert stored.metadata.kind == "rows"
    asked = Asked(stored)
    expected = model.predict_proba(FRAME)
    assert np.allclose(asked.predict({"data": FRAME.values.tolist()})["prediction"], expected, atol=1e-5)
    records = [dict(reversed(row.items())) for row in FRAME.to_dict("records")]
    assert np.allclose(asked.predict({"data": records})["prediction"], expected, atol=1e-5)
    assert asked.label({"data": records}) == model.predict(FRAME).tolist()
    # A category that the encoder knows, as some refuse others.
    assert added.sample["data"][0]["city"] == "Bern"


@pytest.mark.parametrize("outputs", [1, 2])
def test_regressors(tmp_path: Path, outputs: int) -> None:
    data = load_diabetes()
    target = data.target if outputs == 1 else np.stack([data.target, -data.target], axis=1)
    rows = data.data[:3].astype(np.float32)
    for model in (LinearRegression(), DecisionTreeRegressor(max_depth=3)):
        model.fit(data.data.astype(np.float32), target)
        _, stored = add(from_sklearn(model, X=rows[:1]), tmp_path)
        assert (stored.metadata.kind, stored.metadata.task) == ("rows", "regression")
        found = Asked(stored).predict({"data": rows.astype(float).tolist()})["prediction"]
        assert np.allclose(found, model.predict(rows), rtol=1e-4)
        assert np.shape(found) == ((3,) if outputs == 1 else (3, 2))


def test_a_regressor_of_one_dimension(tmp_path: Path) -> None:
    proto = graphs.graph(
        [graphs.node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        [graphs.floats("x", ["n", 3])],
        [graphs.floats("y", ["n"])],
        {"axes": np.array([1])},
    )
    _, stored = add(proto, tmp_path)
    assert (stored.metadata.task, stored.metadata.outputs[0].shape) == ("regression", [None])
    assert Asked(stored).predict({"data": [[1, 2, 3], [0, 0, 1]]}) == {"prediction": [6.0, 1.0]}


def test_a_label_that_is_declared_as_one_has_one_for_each_row(tmp_path: Path) -> None:
    """As onnxmltools writes LightGBM: `label` int64 [1] beside a ZipMap."""
    scores = [
        graphs.node("MatMul", ["input", "weights"], ["raw"]),
        graphs.node("Softmax", ["raw"], ["probabilities_inner"], axis=1),
        graphs.node("ArgMax", ["probabilities_inner"], ["label"], axis=1, keepdims=0),
        graphs.node(
            "ZipMap", ["probabilities_inner"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[3, 5]
        ),
    ]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, None))
    )
    proto = graphs.graph(
        scores,
        [graphs.floats("input", ["N", 2])],
        [graphs.info("label", TensorProto.INT64, [1]), helper.make_value_info("probabilities", kind)],
        {"weights": np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)},
    )
    _, stored = add(proto, tmp_path)
    assert {spec.name: spec.shape for spec in stored.metadata.outputs} == {"label": [None], "probabilities": [None, 2]}
    assert stored.metadata.labels == ["3", "5"]
    body = {"data": [[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]]}
    direct = graphs.run(proto, {"input": np.array(body["data"], np.float32)})
    expected = [[row[3], row[5]] for row in direct["probabilities"]]
    assert np.allclose(Asked(stored).predict(body)["prediction"], expected)
    assert Asked(stored).label(body) == ["3", "5", "3"]


def test_class_names_of_an_array_that_an_index_points_into(tmp_path: Path) -> None:
    model = KNeighborsClassifier(3).fit(WINE.data.astype(np.float32), WINE.target_names[WINE.target])
    proto = from_sklearn(model, X=ROWS[:1], options={"zipmap": False})
    _, stored = add(proto, tmp_path)
    assert stored.metadata.labels == ["class_0", "class_1", "class_2"]
    assert np.allclose(Asked(stored).predict(DATA)["prediction"], model.predict_proba(ROWS), atol=1e-5)


def test_class_names_of_a_table_behind_the_classifier(tmp_path: Path) -> None:
    """As XGBoost's classifier of named classes: numbers of classes are translated at the end."""
    proto = graphs.graph(
        [
            graphs.node("Softmax", ["input"], ["probabilities"], axis=1),
            graphs.node("ArgMax", ["probabilities"], ["number"], axis=1, keepdims=0),
            graphs.node(
                "LabelEncoder",
                ["number"],
                ["label"],
                domain="ai.onnx.ml",
                keys_int64s=[1, 0],
                values_strings=["dog", "cat"],
            ),
        ],
        [graphs.floats("input", [None, 2])],
        [graphs.info("label", TensorProto.STRING, [None]), graphs.floats("probabilities", [None, 2])],
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.labels == ["cat", "dog"]
    assert Asked(stored).label({"data": [[0.0, 1.0], [1.0, 0.0]]}) == ["dog", "cat"]


def test_several_labels_of_a_row(tmp_path: Path) -> None:
    """Of a multi-label classifier each class has a probability of its own, and a label is a row of zeros and ones."""
    proto = graphs.graph(
        [
            graphs.node("Sigmoid", ["input"], ["probabilities"]),
            graphs.node("Greater", ["probabilities", "half"], ["likely"]),
            graphs.node("Cast", ["likely"], ["label"], to=TensorProto.INT64),
        ],
        [graphs.floats("input", ["n", 3])],
        [graphs.info("label", TensorProto.INT64, ["n", 3]), graphs.floats("probabilities", ["n", 3])],
        {"half": np.float32(0.5)},
    )
    _, stored = add(proto, tmp_path, labels=["a", "b", "c"])
    assert (stored.metadata.multilabel, stored.metadata.activation) == (True, "none")
    assert Asked(stored).label({"data": [[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0]]}) == [["a", "c"], []]


@pytest.mark.parametrize(("last", "activation"), [("Sigmoid", "none"), ("Identity", "sigmoid")])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_binary_classifier_with_one_output(tmp_path: Path, last: str, activation: str, rank: int) -> None:
    nodes = [graphs.node("MatMul", ["x", "w"], ["z"]), graphs.node(last, ["z"], ["y"])]
    weights = np.array([[2.0], [-1.0]], np.float32) if rank == 2 else np.array([2.0, -1.0], np.float32)
    proto = graphs.graph(nodes, [graphs.floats("x", ["n", 2])], [graphs.floats("y", None)], {"w": weights})
    options = {} if last == "Sigmoid" else {"labels": ["no", "yes"]}
    _, stored = add(proto, tmp_path, **options)
    assert (stored.metadata.task, stored.metadata.activation) == ("classification", activation)
    names = options.get("labels", ["class_0", "class_1"])
    assert stored.metadata.labels == names
    asked = Asked(stored)
    body = {"data": [[1.0, 0.0], [0.0, 3.0]]}
    likely = 1 / (1 + np.exp(-np.array([2.0, -3.0])))
    assert np.allclose(asked.predict(body)["prediction"], np.stack([1 - likely, likely], axis=1), atol=1e-6)
    assert asked.label(body) == [names[1], names[0]]


def test_logits_get_a_softmax(tmp_path: Path) -> None:
    proto = graphs.graph(
        [graphs.node("MatMul", ["x", "w"], ["logits"])],
        [graphs.floats("x", ["n", 2])],
        [graphs.floats("logits", ["n", 3])],
        {"w": np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]], np.float32)},
    )
    _, stored = add(proto, tmp_path, labels=["a", "b", "c"])
    assert (stored.metadata.task, stored.metadata.activation) == ("classification", "softmax")
    exponentials = np.exp([1.0, 2.0, 3.0])
    found = Asked(stored).predict({"data": [[1.0, 0.0]]})["prediction"]
    assert np.allclose(found, [exponentials / exponentials.sum()], atol=1e-6)
    # Without names of classes it may be a regression of three numbers as well.
    _, stored = add(proto, tmp_path)
    assert stored.metadata.task == "regression"


def test_several_classifiers_in_one_graph(tmp_path: Path) -> None:
    """The end of such a graph is a sequence of tensors; they are outputs of their own then."""
    target = np.stack([WINE.target == 0, WINE.target], axis=1).astype(np.int64)
    model = MultiOutputClassifier(LogisticRegression(max_iter=10_000)).fit(WINE.data, target)
    proto = from_sklearn(model, X=ROWS[:1], options={"zipmap": False})
    _, stored = add(proto, tmp_path)
    assert stored.metadata.task == "raw"
    found = Asked(stored).predict(DATA)["outputs"]
    for index, expected in enumerate(model.predict_proba(ROWS)):
        assert np.allclose(found[f"probabilities_{index}"], expected, atol=1e-5)
    assert np.array_equal(found["label"], model.predict(ROWS))


def test_missing_values(tmp_path: Path) -> None:
    model = make_pipeline(SimpleImputer(), LinearRegression())
    rows = np.array([[1.0, np.nan], [np.nan, 2.0], [3.0, 4.0], [5.0, 7.0]], np.float32)
    model.fit(rows, [1.0, 2.0, 3.0, 4.0])
    body = {"data": [[None, 2.0], [3.0, None]]}
    expected = model.predict(np.array([[np.nan, 2.0], [3.0, np.nan]]))
    proto = from_sklearn(model, X=rows[:1])
    _, stored = add(proto, tmp_path)
    assert stored.metadata.allow_nan
    assert np.allclose(Asked(stored).predict(body)["prediction"], expected, rtol=1e-4)
    _, stored = add(proto, tmp_path, allow_nan=False)
    with pytest.raises(InvalidInputError):
        Asked(stored).predict(body)


def test_a_sample_with_missing_values_allows_them(tmp_path: Path) -> None:
    model = DecisionTreeRegressor(max_depth=2).fit(np.array([[1.0, 2.0], [np.nan, 3.0], [3.0, 1.0]]), [1.0, 2.0, 3.0])
    proto = from_sklearn(model, X=np.zeros((1, 2), np.float32))
    assert not add(proto, tmp_path)[1].metadata.allow_nan
    (tmp_path / "sample.json").write_text('{"data": [[null, 3.0]]}')
    added, stored = add(proto, tmp_path, sample=tmp_path / "sample.json")
    assert stored.metadata.allow_nan
    assert added.sample == {"data": [[None, 3.0]]}
    assert Asked(stored).predict({"data": [[None, 3.0]]})["prediction"] == [2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "an object .* is required"),
        ("{", "no JSON"),
        ('{"data": [[1, 2]]}', "sample.json: data"),
        ('{"data": []}', "sample.json: data"),
        ('{"inputs": {"other": [[1]]}}', "sample.json: "),
    ],
)
def test_a_sample_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sample.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        add(from_sklearn(wine(), X=ROWS[:1]), tmp_path, sample=tmp_path / "sample.json")


def test_any_number_of_columns_is_told_by_the_sample_or_by_names(tmp_path: Path) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    proto = from_sklearn(wine(), initial_types=[("x", FloatTensorType([None, None]))])
    with pytest.raises(ModelError, match="how many columns x has"):
        add(proto, tmp_path)
    added, stored = add(proto, tmp_path, features=WINE.feature_names)
    assert (stored.metadata.kind, stored.metadata.inputs[0].shape) == ("rows", [None, 13])
    assert np.allclose(Asked(stored).predict(DATA)["prediction"], wine().predict_proba(ROWS), atol=1e-5)
    (tmp_path / "sample.json").write_text(f'{{"data": {DATA["data"]}}}')
    added, stored = add(proto, tmp_path, sample=tmp_path / "sample.json")
    assert stored.metadata.inputs[0].shape == [None, 13]
    assert np.array_equal(np.array(added.sample["data"], np.float32), ROWS)
    assert np.allclose(Asked(stored).predict(DATA)["prediction"], wine().predict_proba(ROWS), atol=1e-5)


def test_strings_of_a_text_model_are_lowered_by_a_locale_that_every_image_has(tmp_path: Path) -> None:
    proto = graphs.graph(
        [
            graphs.node("StringNormalizer", ["text"], ["small"], case_change_action="LOWER", locale="en_US"),
            graphs.node(
                "LabelEncoder", ["small"], ["y"], domain="ai.onnx.ml", keys_strings=["zürich"], values_floats=[1.0]
            ),
        ],
        [graphs.info("text", TensorProto.STRING, [None])],
        [graphs.floats("y", [None])],
    )
    _, stored = add(proto, tmp_path)
    assert b"C.UTF-8" in stored.onnx_path.read_bytes()
    assert Asked(stored).predict({"data": [["ZÜRICH"], ["Bern"]]})["prediction"] == [1.0, 0.0]


# What looks like a classifier


def labelled(pick: str, weights: Any) -> onnx.ModelProto:
    """A matrix of scores, and the number of the class that `pick` says of them."""
    return graphs.graph(
        [
            graphs.node("MatMul", ["x", "weights"], ["scores"]),
            graphs.node(pick, ["scores"], ["label"], axis=1, keepdims=0),
        ],
        [graphs.floats("x", ["n", 2])],
        [graphs.info("label", TensorProto.INT64, ["n"]), graphs.floats("scores", ["n", 3])],
        {"weights": np.asarray(weights, np.float32)},
    )


def test_distances_are_no_probabilities(tmp_path: Path) -> None:
    proto = labelled("ArgMin", [[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
    added, stored = add(proto, tmp_path)
    assert stored.metadata.task == "raw"
    (why,) = [reason.why for reason in added.reasons if reason.subject == "task"]
    assert why.startswith("label is never the class with the highest of scores")
    assert Asked(stored).predict({"data": [[1.0, 0.0]]})["outputs"] == {"label": [0], "scores": [[1.0, 2.0, 3.0]]}
    for said in ({"labels": ["a", "b", "c"]}, {"task": "classification"}):
        with pytest.raises(ModelError, match=r"scores has no scores of classes: label is never .* leave out --task"):
            add(proto, tmp_path, **said)
    assert add(proto, tmp_path, task="regression")[1].metadata.task == "regression"
    # The other way round they are scores.
    assert add(labelled("ArgMax", [[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]]), tmp_path)[1].metadata.activation == "softmax"


def test_the_label_is_the_one_that_the_graph_says(tmp_path: Path) -> None:
    """Of a row whose scores are those of another class, as a support vector machine says it by votes."""
    vote = graphs.node("Where", ["is_odd", "first", "highest"], ["label"])
    proto = graphs.graph(
        [
            graphs.node("Softmax", ["x"], ["probabilities"], axis=1),
            graphs.node("ArgMax", ["x"], ["highest"], axis=1, keepdims=0),
            graphs.node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=0),
            graphs.node("Greater", ["most", "nine"], ["is_odd"]),
            vote,
        ],
        [graphs.floats("x", ["n", 3])],
        [graphs.info("label", TensorProto.INT64, ["n"]), graphs.floats("probabilities", ["n", 3])],
        {"nine": np.float32(9), "first": np.array([0])},
    )
    _, stored = add(proto, tmp_path, labels=["a", "b", "c"])
    assert stored.metadata.label_output == "label"
    assert Asked(stored).label({"data": [[1.0, 2.0, 3.0], [1.0, 2.0, 10.0], [1.0, 3.0, 2.0]]}) == ["c", "a", "b"]


def test_one_number_beside_a_label_needs_names_of_classes(tmp_path: Path) -> None:
    """An outlier detector says 1 or -1."""
    from sklearn.svm import OneClassSVM

    model = OneClassSVM(nu=0.2).fit(WINE.data)
    _, stored = add(from_sklearn(model, X=ROWS[:1]), tmp_path)
    assert stored.metadata.task == "raw"
    assert Asked(stored).predict(DATA)["outputs"]["label"] == [[int(said)] for said in model.predict(ROWS)]


def test_a_margin_is_told_far_from_0(tmp_path: Path) -> None:
    """Near 0 it is between 0 and 1, as a probability."""
    proto = graphs.graph(
        [graphs.node("MatMul", ["x", "weights"], ["product"]), graphs.node("Add", ["product", "half"], ["y"])],
        [graphs.floats("x", ["n", 2])],
        [graphs.floats("y", ["n", 1])],
        {"weights": np.array([[0.01], [0.02]], np.float32), "half": np.float32(0.5)},
    )
    _, stored = add(proto, tmp_path, labels=["no", "yes"])
    assert stored.metadata.activation == "sigmoid"


def test_several_labels_whose_sum_is_1_in_all_runs_are_several(tmp_path: Path) -> None:
    nodes = [
        graphs.node("Add", ["x", "far"], ["sum"]),
        graphs.node("Sigmoid", ["sum"], ["probabilities"]),
        graphs.node("Greater", ["probabilities", "half"], ["likely"]),
        graphs.node("Cast", ["likely"], ["label"], to=TensorProto.INT64),
    ]
    proto = graphs.graph(
        nodes,
        [graphs.floats("x", ["n", 2])],
        [graphs.info("label", TensorProto.INT64, ["n", 2]), graphs.floats("probabilities", ["n", 2])],
        {"far": np.array([20.0, -20.0], np.float32), "half": np.float32(0.5)},
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.multilabel
    assert Asked(stored).label({"data": [[0.0, 40.0], [-40.0, 0.0]]}) == [["class_0", "class_1"], []]


def test_trees_with_a_branch_for_missing_values_take_them(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = np.where(np.arange(WINE.data.size).reshape(WINE.data.shape) % 7, WINE.data, np.nan).astype(np.float32)
    model = HistGradientBoostingClassifier(max_iter=3).fit(rows, WINE.target)
    added, stored = add(from_sklearn(model, X=ROWS[:1]), tmp_path)
    assert stored.metadata.allow_nan
    assert "branch for missing values" in next(each.why for each in added.reasons if each.subject == "missing")
    asked = rows[[0, 70, 150]]
    body = {"data": [[None if np.isnan(value) else float(value) for value in row] for row in asked]}
    assert np.allclose(Asked(stored).predict(body)["prediction"], model.predict_proba(asked), atol=1e-5)


def test_lengths_of_outputs_without_rows_are_not_those_of_the_sample(tmp_path: Path) -> None:
    proto = graphs.graph(
        [
            graphs.node("Transpose", ["x"], ["turned"]),
            graphs.node("MatMul", ["turned", "x"], ["square"]),
            graphs.node("Concat", ["x", "x"], ["twice"], axis=0),
        ],
        [graphs.floats("x", ["n", 3])],
        [graphs.floats("square", None), graphs.floats("twice", None)],
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.batching == "none"
    assert [spec.shape for spec in stored.metadata.outputs] == [[3, 3], [None, 3]]
