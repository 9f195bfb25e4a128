from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.store.models import open_model
from tests.train.conftest import KERAS_WARNINGS
from train import keras_weights, onnx_graph
from train.errors import TrainingError, WeightsUnavailableError
from train.images import seeded_images
from train.tensorflow_export import Original

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(KERAS_WARNINGS)]

WEIGHTS_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
INDEX_FILE = "imagenet_class_index.json"
MakeModel = Callable[..., Any]


@pytest.fixture(scope="module")
def untrained(keras: Any) -> keras_weights.Classifier:
    assert keras
    return keras_weights.random(seed=0)


@pytest.fixture
def downloader(keras: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts another function in the place of the one with which Keras downloads or finds its files."""
    assert keras
    from keras.src.utils import file_utils

    return lambda replacement: monkeypatch.setattr(file_utils, "get_file", replacement)


def test_random_weights_differ_from_image_to_image(untrained: keras_weights.Classifier) -> None:
    probabilities = Original(untrained.model).predict(seeded_images(6, seed=5))
    best = np.sort(probabilities, axis=1)[:, ::-1]

    assert (best[:, 0] > 20 / 1000).all()  # uniform would be 1 / 1000
    assert (best[:, :5] - best[:, 1:6] > 1e-4).mean() > 0.9  # the top five are no tie
    assert len(set(probabilities.argmax(axis=1))) >= 4


def test_random_weights_have_measured_batch_statistics(keras: Any, untrained: keras_weights.Classifier) -> None:
    norms = [layer for layer in untrained.model.layers if isinstance(layer, keras.layers.BatchNormalization)]

    assert len(norms) == 94
    for layer in norms:
        assert np.asarray(layer.moving_mean).std() > 1e-4
        assert not np.allclose(layer.moving_variance, 1)
        assert layer.momentum > 0


def test_random_weights_say_that_they_are_untrained_and_come_from_the_seed(
    untrained: keras_weights.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_weights, "_CALIBRATION_IMAGES", 2)  # is faster
    other = keras_weights.random(seed=1, labels=["cat", "dog"])

    assert untrained.weights.origin == "random"
    assert not untrained.weights.trained
    assert "seed 0" in untrained.weights.description
    assert untrained.labels[0] == "class_0000"
    assert len(untrained.labels) == 1000
    assert other.weights.sha256 != untrained.weights.sha256
    assert other.labels == ["cat", "dog"]
    assert other.model.output_shape == (None, 2)


def test_the_stored_model_is_what_the_seed_makes(untrained: keras_weights.Classifier, model_store: Path) -> None:
    assert model_store.is_dir()
    file = open_model("inception_v3:latest").onnx_path
    images = seeded_images(4, seed=5)

    stored = onnx_graph.run(str(file), "image", images)

    assert stored == pytest.approx(Original(untrained.model).predict(images), abs=1e-3)


def test_imagenet_weights_and_names_from_a_cache(
    untrained: keras_weights.Classifier, downloader: Callable[[Any], None], tmp_path: Path
) -> None:
    untrained.model.save_weights(tmp_path / "cached.weights.h5")
    names = ", ".join(f'"{index}": ["n{index:08d}", "name_{index}"]' for index in range(1000))
    (tmp_path / INDEX_FILE).write_text(f"{{{names}}}")
    asked = []

    def from_cache(name: str, *_: Any, **__: Any) -> str:
        asked.append(name)
        return str(tmp_path / {WEIGHTS_FILE: "cached.weights.h5", INDEX_FILE: INDEX_FILE}[name])

    downloader(from_cache)
    classifier = keras_weights.imagenet()

    assert asked == [WEIGHTS_FILE, INDEX_FILE]
    assert classifier.labels == [f"name_{index}" for index in range(1000)]
    assert classifier.weights.origin == "imagenet"
    assert classifier.weights.trained
    assert classifier.weights.sha256 == keras_weights.variables_sha256(classifier.model)
    images = seeded_images(2, seed=5)
    expected = Original(untrained.model).predict(images)
    assert Original(classifier.model).predict(images) == pytest.approx(expected, abs=1e-5)


def test_without_a_network_the_message_names_three_ways_out(downloader: Callable[[Any], None]) -> None:
    def no_network(*_: Any, **__: Any) -> str:
        raise Exception("URL fetch failure on https://example.org/weights.h5: None -- no route")  # as Keras does

    downloader(no_network)
    with pytest.raises(WeightsUnavailableError) as caught:
        keras_weights.imagenet()

    message = str(caught.value)
    assert "\n" not in message
    for way in ("--weights FILE", "--weights random", WEIGHTS_FILE, INDEX_FILE, "no route"):
        assert way in message


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_keras_file(make_keras_model: MakeModel, tmp_path: Path, name: str) -> None:
    model = make_keras_model(3)
    model.save(tmp_path / name)

    classifier = keras_weights.from_file(tmp_path / name, labels=["a", "b", "c"])

    assert classifier.labels == ["a", "b", "c"]
    assert classifier.weights.origin == "file"
    assert name in classifier.weights.description
    assert str(tmp_path) not in classifier.weights.description
    assert classifier.weights.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    images = seeded_images(2, seed=5)
    assert Original(classifier.model).predict(images) == pytest.approx(Original(model).predict(images), abs=1e-6)
    assert keras_weights.from_file(tmp_path / name).labels == ["class_0000", "class_0001", "class_0002"]


def test_a_file_with_weights_alone(keras: Any, tmp_path: Path) -> None:
    model = keras.applications.InceptionV3(weights=None, classes=2)
    model.save_weights(tmp_path / "two.weights.h5")

    classifier = keras_weights.from_file(tmp_path / "two.weights.h5", labels=["a", "b"])

    assert np.array_equal(classifier.model.get_weights()[0], model.get_weights()[0])
    with pytest.raises(TrainingError, match="cannot load it"):
        keras_weights.from_file(tmp_path / "two.weights.h5", labels=["a", "b", "c"])


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_code_in_a_file_is_not_run(keras: Any, make_keras_model: MakeModel, tmp_path: Path, name: str) -> None:
    make_keras_model(before=(keras.layers.Lambda(lambda pixels: pixels * 2),)).save(tmp_path / name)

    with pytest.raises(TrainingError, match="Lambda"):
        keras_weights.from_file(tmp_path / name)


def test_a_model_of_another_shape_is_refused(make_keras_model: MakeModel, tmp_path: Path) -> None:
    make_keras_model(side=224).save(tmp_path / "small.keras")
    make_keras_model(1, activation="sigmoid").save(tmp_path / "one.keras")

    with pytest.raises(TrainingError, match=r"input shape \(None, 224, 224, 3\)"):
        keras_weights.from_file(tmp_path / "small.keras")
    with pytest.raises(TrainingError, match=r"output shape \(None, 1\)"):
        keras_weights.from_file(tmp_path / "one.keras")


def test_a_model_that_normalises_pixels_itself_is_refused(
    keras: Any, make_keras_model: MakeModel, tmp_path: Path
) -> None:
    make_keras_model(before=(keras.layers.Rescaling(1 / 255, name="to_unit"),)).save(tmp_path / "model.keras")

    with pytest.raises(TrainingError, match="to_unit"):
        keras_weights.from_file(tmp_path / "model.keras")


def test_the_wrong_number_of_names_is_refused(make_keras_model: MakeModel, tmp_path: Path) -> None:
    make_keras_model(3).save(tmp_path / "model.keras")

    with pytest.raises(TrainingError, match="2 names for a model with 3 classes"):
        keras_weights.from_file(tmp_path / "model.keras", labels=["a", "b"])


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("missing.keras", "no such file"),
        ("model.pb", "must be a .keras"),
        ("broken.keras", "cannot load"),
        ("broken.h5", "cannot load"),
    ],
)
def test_a_file_that_is_no_keras_file_is_refused_in_one_line(tmp_path: Path, name: str, complaint: str) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"not a model")

    with pytest.raises(TrainingError, match=complaint) as caught:
        keras_weights.from_file(tmp_path / name)

    assert "\n" not in str(caught.value)
