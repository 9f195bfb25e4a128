from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.store.models import open_model
from train import iris
from train.errors import VerificationError
from train.progress import Reporter

pytestmark = pytest.mark.usefixtures("bentoml_home")


@pytest.fixture(scope="module")
def data() -> iris.IrisData:
    return iris.load_data()


@pytest.fixture(scope="module")
def pipeline(data: iris.IrisData) -> Any:
    return iris.train(data, seed=0)[0]


def test_the_stored_model_says_what_it_is_and_predicts(reporter: Reporter) -> None:
    tag = iris.make(reporter)

    model = open_model("iris:latest")
    metadata = model.metadata
    assert model.tag == tag
    assert metadata.labels == ["setosa", "versicolor", "virginica"]
    assert metadata.feature_names[0] == "sepal length (cm)"
    assert metadata.inputs[0].model_dump() == {"name": "features", "dtype": "float32", "shape": [None, 4]}
    assert metadata.outputs[0].model_dump() == {"name": "probabilities", "dtype": "float32", "shape": [None, 3]}
    assert metadata.metrics["held_out_accuracy"] >= 0.9
    assert metadata.metrics["held_out_rows"] == 30
    assert metadata.verification.inputs == 150
    assert metadata.verification.max_abs_difference <= metadata.verification.tolerance == iris.TOLERANCE
    assert metadata.weights.origin == "trained"
    assert metadata.weights.trained
    assert metadata.seed == 0
    assert {"python", "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy", "bentoml"} <= set(metadata.versions)

    session = onnxruntime.InferenceSession(model.onnx_path)
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in session.get_inputs()] == [
        ("features", "tensor(float)", ["N", 4])
    ]
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in session.get_outputs()] == [
        ("probabilities", "tensor(float)", ["N", 3])
    ]
    for rows in (1, 7):
        (probabilities,) = session.run(None, {"features": np.tile(np.float32([5.1, 3.5, 1.4, 0.2]), (rows, 1))})
        assert probabilities.shape == (rows, 3)
        assert probabilities.dtype == np.float32
        assert (probabilities.argmax(axis=1) == 0).all()
        assert probabilities.sum(axis=1) == pytest.approx(1)


def test_the_same_seed_makes_the_same_graph(data: iris.IrisData, pipeline: Any) -> None:
    again, _ = iris.train(data, seed=0)
    other, _ = iris.train(data, seed=1)

    assert iris.export(again).SerializeToString() == iris.export(pipeline).SerializeToString()
    assert iris.export(other).SerializeToString() != iris.export(pipeline).SerializeToString()


def test_the_graph_of_another_model_is_refused(data: iris.IrisData, pipeline: Any) -> None:
    other, _ = iris.train(data, seed=1)

    with pytest.raises(VerificationError, match="differ by up to"):
        iris.verify(iris.export(other), pipeline, data, tolerance=iris.TOLERANCE)


def test_a_difference_over_the_tolerance_saves_nothing(
    stored: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert iris.main(["--quiet", "--tolerance", "0"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert "more than the tolerance of 0" in err
    assert len(err.splitlines()) == 1
    assert stored() == []


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert iris.main(["--seed", "3", "--store-tag", "flowers"]) == 0

    out, err = capsys.readouterr()
    assert "held-out accuracy" in out
    assert "saved flowers:" in out
    assert err == ""
    assert open_model("flowers").metadata.seed == 3


def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert iris.main(["--quiet"]) == 0

    assert capfd.readouterr() == ("", "")


def test_the_hash_is_of_features_and_classes(data: iris.IrisData) -> None:
    changed = iris.IrisData(data.features, data.classes[::-1], data.feature_names, data.labels)

    assert data.sha256() != changed.sha256()
    assert len(data.sha256()) == 64
