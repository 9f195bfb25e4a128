"""The command, with a Keras file of a few hundred weights in the place of InceptionV3."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from serving.store.models import SAVED_MODEL_DIRECTORY, open_model
from tests.train.conftest import KERAS_WARNINGS
from train import inception_v3, keras_weights
from train.errors import WeightsUnavailableError
from train.images import encode, seeded_images
from train.tensorflow_export import LoadedSavedModel, Original

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("bentoml_home"),
    pytest.mark.filterwarnings(KERAS_WARNINGS),
]
NAMES = ["cat", "dog", "bird"]


@pytest.fixture
def keras_file(make_keras_model: Callable[..., Any], tmp_path: Path) -> Path:
    make_keras_model().save(tmp_path / "fine_tuned.keras")
    return tmp_path / "fine_tuned.keras"


@pytest.fixture
def labels_file(tmp_path: Path) -> Path:
    (tmp_path / "labels.json").write_text(json.dumps(NAMES))
    return tmp_path / "labels.json"


def test_a_fine_tuned_file_becomes_two_models(
    keras_file: Path, labels_file: Path, make_keras_model: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = inception_v3.main(
        ["--weights", str(keras_file), "--labels", str(labels_file), "--store-tag", "pets", "--seed", "4"]
    )

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    onnx, saved = open_model("pets"), open_model("pets_savedmodel")
    assert f"saved {onnx.tag} (file weights)" in out
    assert f"saved {saved.tag} (file weights)" in out
    for model in (onnx, saved):
        metadata = model.metadata
        assert metadata.labels == NAMES
        assert metadata.weights.origin == "file"
        assert metadata.verification.max_abs_difference <= metadata.verification.tolerance
        assert metadata.seed == 4
        assert {"python", "keras", "bentoml", "numpy"} <= set(metadata.versions)
        assert {"tensorflow", "tensorflow-cpu"} & set(metadata.versions)
    assert {"onnx", "onnxruntime", "tf2onnx"} <= set(onnx.metadata.versions)
    assert onnx.metadata.onnx_opset == 18
    assert onnx.metadata.inputs[0].shape == [None, 299, 299, 3]
    assert saved.metadata.format == "tensorflow_savedmodel"

    images = seeded_images(4, seed=9)
    expected = Original(make_keras_model()).predict(images)
    (probabilities,) = onnxruntime.InferenceSession(onnx.onnx_path).run(None, {"image": images})
    assert probabilities == pytest.approx(expected, abs=1e-5)
    directory = saved.path / SAVED_MODEL_DIRECTORY / "1"  # <base>/<version>, as TensorFlow Serving wants it
    labels = LoadedSavedModel(directory).labels([encode(image) for image in images])
    assert labels == [NAMES[index] for index in expected.argmax(axis=1)]


def test_a_difference_over_the_tolerance_saves_neither(
    keras_file: Path, bentoml_home: Path, stored: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inception_v3.main(["--weights", str(keras_file), "--tolerance", "0", "--quiet"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert "more than the tolerance of 0" in err
    assert stored() == []
    assert [path.name for path in (bentoml_home / "tmp").iterdir()] == ["model-staging.lock"]


def test_a_saved_model_that_fails_takes_the_onnx_graph_with_it(
    keras_file: Path,
    stored: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export = inception_v3.tensorflow_export.export_saved_model
    monkeypatch.setattr(
        inception_v3.tensorflow_export,
        "export_saved_model",
        lambda model, labels, directory: export(model, [*labels[1:], labels[0]], directory),
    )

    assert inception_v3.main(["--weights", str(keras_file), "--quiet"]) == 1

    assert "inception_v3 as SavedModel: input" in capsys.readouterr().err
    assert stored() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--weights", "no_such.keras"], "no such file"),
        (["--labels", "no_such.json"], "No such file"),
        (["--store-tag", "inception_v3:latest"], "leave out the version"),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: list[str], complaint: str, stored: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inception_v3.main([*arguments, "--quiet"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert stored() == []


def test_the_wrong_number_of_names_saves_nothing(
    keras_file: Path, tmp_path: Path, stored: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.json").write_text('["cat", "dog"]')

    assert inception_v3.main(["--weights", str(keras_file), "--labels", str(tmp_path / "two.json"), "--quiet"]) == 1

    assert "2 names for a model with 3 classes" in capsys.readouterr().err
    assert stored() == []


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> None:
        raise WeightsUnavailableError("the ImageNet weights cannot be had (no route)")

    monkeypatch.setattr(keras_weights, "imagenet", unavailable)


@pytest.mark.usefixtures("no_network")
def test_imagenet_is_the_default_and_fails_without_a_network(
    stored: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inception_v3.main(["--quiet"]) == 1

    assert capsys.readouterr() == ("", "error: the ImageNet weights cannot be had (no route)\n")
    assert stored() == []


@pytest.mark.usefixtures("no_network")
def test_auto_falls_back_to_random_weights_with_a_warning_and_says_so_in_the_store(
    make_keras_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small(*, seed: int, labels: list[str] | None) -> keras_weights.Classifier:
        assert (seed, labels) == (0, None)
        weights = keras_weights.Weights(origin="random", trained=False, description="random", sha256="0" * 64)
        return keras_weights.Classifier(make_keras_model(), NAMES, weights)

    monkeypatch.setattr(keras_weights, "random", small)

    assert inception_v3.main(["--weights", "auto"]) == 0

    out, err = capsys.readouterr()
    assert err.startswith("WARNING: the ImageNet weights cannot be had (no route)")
    assert "NOT TRAINED" in err
    assert "(random weights)" in out
    assert not open_model("inception_v3").metadata.weights.trained


def test_quiet_prints_nothing_not_even_what_tensorflow_writes_from_cpp(
    keras_file: Path, run_python: Callable[..., Any]
) -> None:
    done = run_python("-m", "train.inception_v3", "--weights", str(keras_file), "--quiet")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
