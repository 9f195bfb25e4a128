"""Exporting, with a model of a few hundred weights; the finished InceptionV3 has its own tests."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.train.conftest import KERAS_WARNINGS
from train import inception_v3, tensorflow_export
from train.errors import TrainingError, VerificationError
from train.images import decode, encode, seeded_images
from train.tensorflow_export import LoadedSavedModel, Original

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(KERAS_WARNINGS)]
LABELS = ["a", "b", "Käfer"]
MakeModel = Callable[..., Any]


@pytest.fixture
def original(make_keras_model: MakeModel) -> Original:
    return Original(make_keras_model())


@pytest.fixture
def saved_model(original: Original, tmp_path: Path) -> Path:
    tensorflow_export.export_saved_model(original.with_pixels(), LABELS, tmp_path / "saved")
    return tmp_path / "saved"


def test_the_onnx_graph_takes_any_number_of_uint8_images(original: Original, tmp_path: Path) -> None:
    graph = tensorflow_export.export_onnx(original.with_pixels(), tmp_path / "model.onnx")

    assert graph.opset_import[0].version == tensorflow_export.ONNX_OPSET
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    tensors = [*session.get_inputs(), *session.get_outputs()]
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in tensors] == [
        ("image", "tensor(uint8)", ["N", 299, 299, 3]),
        ("probabilities", "tensor(float)", ["N", 3]),
    ]
    images = seeded_images(3, seed=5)
    for count in (1, 3):
        (probabilities,) = session.run(None, {"image": images[:count]})
        assert probabilities == pytest.approx(original.predict(images[:count]), abs=1e-5)


def test_logits_get_a_softmax(make_keras_model: MakeModel, tmp_path: Path) -> None:
    with_softmax, logits = Original(make_keras_model()), Original(make_keras_model(activation=None))
    images = seeded_images(3, seed=5)
    tensorflow_export.export_onnx(logits.with_pixels(), tmp_path / "model.onnx")

    assert not with_softmax.needs_softmax
    assert logits.needs_softmax
    assert logits.predict(images) == pytest.approx(with_softmax.predict(images), abs=1e-6)
    inception_v3.verify_onnx(tmp_path / "model.onnx", with_softmax, images, tolerance=1e-5)


def test_other_activations_are_refused(make_keras_model: MakeModel) -> None:
    with pytest.raises(TrainingError, match="activation sigmoid"):
        Original(make_keras_model(activation="sigmoid"))


def test_the_graph_of_other_weights_is_refused(original: Original, tmp_path: Path) -> None:
    tensorflow_export.export_onnx(original.with_pixels(), tmp_path / "model.onnx")
    images = seeded_images(6, seed=5)
    inception_v3.verify_onnx(tmp_path / "model.onnx", original, images, tolerance=1e-5)
    kernel = original.model.layers[1].kernel
    kernel.assign(np.asarray(kernel) * 1.05)

    with pytest.raises(VerificationError, match="differ by up to"):
        inception_v3.verify_onnx(tmp_path / "model.onnx", original, images, tolerance=inception_v3.TOLERANCE)


def test_the_saved_model_takes_base64url_files_and_gives_labels(original: Original, saved_model: Path) -> None:
    import tensorflow as tf

    images = seeded_images(4, seed=5)
    expected = [LABELS[index] for index in original.predict(images).argmax(axis=1)]
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]

    assert signature.structured_input_signature[1] == {"image": tf.TensorSpec([None], tf.string, name="image")}
    assert signature.structured_outputs == {"output_0": tf.TensorSpec([None], tf.string, name="output_0")}
    padded = [base64.urlsafe_b64encode(encode(image)) for image in images]
    for texts in (padded, [text.rstrip(b"=") for text in padded]):
        labels = signature(image=tf.constant(texts))["output_0"].numpy()
        assert [label.decode() for label in labels] == expected
    assert len(set(expected)) > 1
    assert signature(image=tf.constant([], tf.string))["output_0"].shape == (0,)


def test_the_saved_model_decodes_what_pillow_decodes(keras: Any) -> None:
    assert keras
    image = seeded_images(1, seed=5, height=210, width=333)[0]
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    for file in (encode(image), encode(image, "JPEG"), encode(grey)):
        (text,) = tensorflow_export.encode_base64([file])
        pixels = np.asarray(tensorflow_export.decode_pixels(text))
        assert np.abs(pixels.astype(int) - decode(file)).max() <= 1


def test_the_verification_of_the_saved_model_can_fail(original: Original, saved_model: Path) -> None:
    images = seeded_images(6, seed=5)

    result = inception_v3.verify_saved_model(saved_model, original, images, LABELS, tolerance=1e-5)
    assert result.max_abs_difference <= 1e-5
    with pytest.raises(VerificationError, match="instead of"):
        inception_v3.verify_saved_model(saved_model, original, images, [*LABELS[1:], LABELS[0]], tolerance=1e-5)
    kernel = original.model.layers[1].kernel
    kernel.assign(np.asarray(kernel) * 1.05)
    with pytest.raises(VerificationError, match="differ by up to"):
        inception_v3.verify_saved_model(saved_model, original, images, LABELS, tolerance=inception_v3.TOLERANCE)


def test_loading_it_needs_tensorflow_alone(saved_model: Path, run_python: Callable[..., Any]) -> None:
    done = run_python(
        "-c",
        "import sys; sys.modules['keras'] = None\n"
        "import tensorflow as tf\n"
        f"print(list(tf.saved_model.load({str(saved_model)!r}).signatures))",
        TF_CPP_MIN_LOG_LEVEL="3",
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['serving_default', 'probabilities']"


def test_labels_of_a_loaded_model(original: Original, saved_model: Path) -> None:
    images = seeded_images(3, seed=5)
    expected = [LABELS[index] for index in original.predict(images).argmax(axis=1)]

    assert LoadedSavedModel(saved_model).labels([encode(image) for image in images]) == expected
