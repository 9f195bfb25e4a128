"""The models that the peers answer with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import onnxruntime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL_VARIABLE = "BENCHMARK_IRIS_MODEL"
IMAGE_MODEL_VARIABLE = "BENCHMARK_INCEPTION_V3_MODEL"
"""Both name an ONNX file."""
THREADS_VARIABLE = "BENCHMARK_INCEPTION_V3_THREADS"


class IrisModel:
    """One ONNX Runtime session with one thread: float32 `[N, 4]` to float32 probabilities `[N, 3]`."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ[MODEL_VARIABLE], options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._outputs = [next(output.name for output in self._session.get_outputs() if output.type == "tensor(float)")]

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = self._session.run(self._outputs, {self._input: rows})[0]
        return probabilities


class ImageModel:
    """ONNX Runtime as this service sets it up for images: uint8 `[N, 299, 299, 3]` to float32 `[N, classes]`."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ[THREADS_VARIABLE])
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            os.environ[IMAGE_MODEL_VARIABLE], options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return probabilities
