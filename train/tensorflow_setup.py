"""Importing TensorFlow and Keras without their chatter."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings

from train.environment import prepare


def load() -> None:
    """Import TensorFlow and Keras (several seconds) and make them as quiet and as plain as this project needs."""
    prepare()
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Keras asks numpy for an attribute that numpy has announced for other uses.
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)
        import keras
        import tf2onnx

    logging.getLogger(tf2onnx.__name__).setLevel(logging.ERROR)
    # A user's ~/.keras/keras.json may say otherwise, and the exported graph takes float32 in NHWC order.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.disable_interactive_logging()


def distribution() -> str:
    """The name under which TensorFlow is installed: `tensorflow-cpu` on Linux x86-64."""
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name
    raise importlib.metadata.PackageNotFoundError("tensorflow")
