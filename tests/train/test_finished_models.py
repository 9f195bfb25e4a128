"""The InceptionV3 that `python -m train --weights random` made for the tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from serving.store.models import SAVED_MODEL_DIRECTORY, StoredModel, open_model
from tests.train.conftest import KERAS_WARNINGS
from train.images import encode, seeded_images
from train.tensorflow_export import LoadedSavedModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(KERAS_WARNINGS)]


@pytest.fixture
def classifier(model_store: Path) -> StoredModel:
    assert model_store.is_dir()
    return open_model("inception_v3:latest")


@pytest.fixture
def saved_model(model_store: Path) -> StoredModel:
    assert model_store.is_dir()
    return open_model("inception_v3_savedmodel:latest")


def test_the_metadata_says_untrained(classifier: StoredModel, saved_model: StoredModel) -> None:
    for model in (classifier, saved_model):
        metadata = model.metadata
        assert metadata.weights.origin == "random"
        assert not metadata.weights.trained
        assert metadata.labels == [f"class_{index:04d}" for index in range(1000)]
        assert 0 < metadata.verification.max_abs_difference <= metadata.verification.tolerance
        assert metadata.metrics["parameters"] == 23_851_784
    assert classifier.metadata.weights.sha256 == saved_model.metadata.weights.sha256


def test_the_graph_is_lean(classifier: StoredModel) -> None:
    graph = onnx.load(classifier.onnx_path)
    operators = Counter(node.op_type for node in graph.graph.node)

    assert operators["Conv"] == 94
    assert operators["BatchNormalization"] == 0  # folded into the convolutions
    assert operators["Transpose"] <= 2  # into NCHW at the input and out of it at the head
    assert 94e6 < classifier.onnx_path.stat().st_size < 96e6
    assert graph.ir_version == classifier.metadata.onnx_ir_version
    onnx.checker.check_model(graph)


def test_it_takes_any_number_of_images_and_tells_them_apart(classifier: StoredModel) -> None:
    session = onnxruntime.InferenceSession(classifier.onnx_path)
    tensors = [*session.get_inputs(), *session.get_outputs()]
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in tensors] == [
        ("image", "tensor(uint8)", ["N", 299, 299, 3]),
        ("probabilities", "tensor(float)", ["N", 1000]),
    ]
    images = seeded_images(4, seed=21)
    (together,) = session.run(None, {"image": images})
    assert together.dtype == np.float32
    assert together.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert together.max(axis=1).min() > 0.02
    assert len(set(together.argmax(axis=1))) == 4
    for index, image in enumerate(images):
        (alone,) = session.run(None, {"image": image[np.newaxis]})
        assert alone[0] == pytest.approx(together[index], abs=1e-4)


def test_both_models_give_the_same_label(classifier: StoredModel, saved_model: StoredModel) -> None:
    images = seeded_images(4, seed=21)
    (probabilities,) = onnxruntime.InferenceSession(classifier.onnx_path).run(None, {"image": images})

    labels = LoadedSavedModel(saved_model.path / SAVED_MODEL_DIRECTORY / "1").labels([encode(i) for i in images])

    assert labels == [classifier.metadata.labels[index] for index in probabilities.argmax(axis=1)]
