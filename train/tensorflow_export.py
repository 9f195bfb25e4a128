"""A Keras classifier as one ONNX graph and as a TensorFlow SavedModel that takes encoded images."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train import onnx_graph
from train.errors import TrainingError
from train.images import SIDE, seeded_images
from train.verification import PROBABILITY_SUM_TOLERANCE

# The newest that tf2onnx writes; ONNX Runtime has read it since 1.14.
ONNX_OPSET = 18
SIGNATURE = "serving_default"
PROBABILITIES_SIGNATURE = "probabilities"
OUTPUT = "output_0"
"""TensorFlow's own name of the output of a function that returns one tensor, which clients expect."""


class Original:
    """The Keras model as it is called in Keras, outside any exported graph: what exports are compared with."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.needs_softmax = not _gives_probabilities(model)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Images uint8 [N, 299, 299, 3] to probabilities float32 [N, classes]."""
        import keras

        pixels = keras.applications.inception_v3.preprocess_input(images.astype(np.float32))
        outputs = np.asarray(self.model(pixels, training=False), dtype=np.float32)
        return _softmax(outputs) if self.needs_softmax else outputs

    def with_pixels(self) -> Any:
        """A Keras model from `image` uint8 [N, 299, 299, 3] to probabilities float32 [N, classes]."""
        import keras

        image = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
        outputs = self.model(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image))
        if self.needs_softmax:
            outputs = keras.layers.Softmax(dtype="float32")(outputs)
        return keras.Model(image, keras.ops.cast(outputs, "float32"))


def export_onnx(model: Any, file: Path) -> Any:
    """Write `Original.with_pixels()` as ONNX: `image` uint8 [N, 299, 299, 3] to `probabilities` float32 [N, classes].

    Returns the `onnx.ModelProto`.
    """
    import onnx
    import tensorflow as tf

    signature = [tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8, name="image")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)
        model.export(file, format="onnx", input_signature=signature, opset_version=ONNX_OPSET, verbose=False)
    graph = onnx.load(file)
    onnx_graph.rename_output(graph, "probabilities")
    onnx_graph.name_rows(graph, classes=model.output_shape[1])
    onnx.checker.check_model(graph)
    onnx.save(graph, file)
    return graph


def export_saved_model(model: Any, labels: Sequence[str], directory: Path) -> None:
    """Write `Original.with_pixels()` as a SavedModel into `directory`.

    `serving_default` takes `image`: string [N], JPEG or PNG files in base64url with or without padding, and
    returns `output_0`: string [N], the labels. The signature `probabilities` takes the same and returns
    `probabilities`: float32 [N, classes]. Decoding, resizing (bilinear, antialiased, rounded to uint8), inference
    and label look-up are in the graph.
    """
    import tensorflow as tf

    names = tf.constant(list(labels))
    encoded = [tf.TensorSpec([None], tf.string, name="image")]

    def infer(image: Any) -> Any:
        # One image after the other: their sizes differ until they are resized.
        batch = tf.map_fn(decode_pixels, image, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 3], tf.uint8))
        return model(batch, training=False)

    @tf.function(input_signature=encoded)
    def label(image: Any) -> dict[str, Any]:
        return {OUTPUT: tf.gather(names, tf.argmax(infer(image), axis=1))}

    @tf.function(input_signature=encoded)
    def probabilities(image: Any) -> dict[str, Any]:
        return {"probabilities": infer(image)}

    # A bare module with the variables: the SavedModel then has nothing in it that needs Keras to be loaded.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(directory), signatures={SIGNATURE: label, PROBABILITIES_SIGNATURE: probabilities})


def decode_pixels(text: Any) -> Any:
    """One base64url image file, a scalar string tensor, to uint8 [299, 299, 3]; runs inside and outside graphs."""
    import tensorflow as tf

    file = tf.io.decode_base64(text)
    image = tf.cond(
        tf.io.is_jpeg(file),
        # TensorFlow's default is libjpeg's fast transform, which is off by up to five grey levels.
        lambda: tf.image.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(file, channels=3, expand_animations=False),
    )
    resized = tf.image.resize(image, [SIDE, SIDE], method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


class LoadedSavedModel:
    """A SavedModel as TensorFlow Serving would run it."""

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(directory))

    def labels(self, files: Sequence[bytes]) -> list[str]:
        """Image files to their labels."""
        result = self._loaded.signatures[SIGNATURE](image=encode_base64(files))[OUTPUT]
        return [name.decode() for name in result.numpy()]

    def probabilities(self, files: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Image files to probabilities float32 [N, classes]."""
        result = self._loaded.signatures[PROBABILITIES_SIGNATURE](image=encode_base64(files))["probabilities"]
        return np.asarray(result, dtype=np.float32)


def encode_base64(files: Sequence[bytes]) -> Any:
    """Image files as a string tensor [N] in base64url, every second one without its padding: both must work."""
    import tensorflow as tf

    texts = [base64.urlsafe_b64encode(file) for file in files]
    return tf.constant([text.rstrip(b"=") if index % 2 else text for index, text in enumerate(texts)])


def _gives_probabilities(model: Any) -> bool:
    """Whether the outputs are probabilities already; otherwise they are logits.

    Raises:
        TrainingError: they are neither, for example the outputs of sigmoids.
    """
    import keras

    pixels = keras.applications.inception_v3.preprocess_input(seeded_images(2, seed=0).astype(np.float32))
    outputs = np.asarray(model(pixels, training=False), dtype=np.float32)
    if not np.isfinite(outputs).all():
        raise TrainingError("the model's outputs are not finite numbers")
    if (outputs >= 0).all() and np.abs(outputs.sum(axis=1) - 1).max() <= PROBABILITY_SUM_TOLERANCE:
        return True
    last = model.layers[-1]
    while getattr(last, "layers", None):
        last = last.layers[-1]
    activation = getattr(last, "activation", keras.activations.linear)
    if activation is not keras.activations.linear:
        raise TrainingError(
            f"the last layer, {last.name}, has the activation {activation.__name__}; it needs softmax or none"
        )
    return False


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
