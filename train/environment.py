"""Environment of the training process. It has to be set before TensorFlow and BentoML are imported."""

from __future__ import annotations

import os

_VARIABLES = {
    # Only errors from TensorFlow's C++ side. Its notice about oneDNN ignores this level; without oneDNN there is
    # no notice, and the results do not depend on which kernels it picks.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Exporting needs no GPU, and reduced precision there would break the comparison with the ONNX graph.
    "CUDA_VISIBLE_DEVICES": "-1",
    # tf2onnx then stops at an error of its optimiser, and does not copy the whole graph at every step
    # (6.9 GB of memory instead of 4.4 GB).
    "TF2ONNX_CATCH_ERRORS": "FALSE",
    # Training on somebody's machine reports nothing home unless they ask for it.
    "BENTOML_DO_NOT_TRACK": "True",
}


def prepare() -> None:
    """Set what the user has not set. The Keras backend is not a choice: the SavedModel needs TensorFlow."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    os.environ["KERAS_BACKEND"] = "tensorflow"
