"""Small ONNX models with the metadata that training would have stored beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.core.signature import TensorSpec
from serving.store.models import ONNX_FILE, ModelMetadata, StoredModel, Verification, Weights

IR_VERSION = 8
OPSET = 17


def tiny_graph(*, ir_version: int = IR_VERSION, opset: int = OPSET, seed: int = 0) -> onnx.ModelProto:
    """softmax(features @ weights): float32 [N, 4] to float32 [N, 3]."""
    weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
        ],
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)])


def metadata(**changes: Any) -> ModelMetadata:
    """The record of `tiny_graph()`, with `changes`."""
    values: dict[str, Any] = {
        "format": "onnx",
        "kind": "rows",
        "task": "classification",
        "scores": "probabilities",
        "labels": ["a", "b", "c"],
        "inputs": [TensorSpec(name="features", dtype="float32", shape=[None, 4])],
        "outputs": [TensorSpec(name="probabilities", dtype="float32", shape=[None, 3])],
        "weights": Weights(origin="random", trained=False, description="a test's", sha256="0" * 64),
        "verification": Verification(inputs=1, max_abs_difference=0, tolerance=0),
        "versions": {"onnxruntime": "1.2.3"},
        "onnx_ir_version": IR_VERSION,
        "onnx_opset": OPSET,
    }
    return ModelMetadata(**values | changes)


def tiny_model(path: Path, graph: onnx.ModelProto | bytes | None = None, **changes: Any) -> StoredModel:
    """A stored model at `path`; `changes` are to its metadata."""
    content = (graph or tiny_graph()) if not isinstance(graph, bytes) else graph
    (path / ONNX_FILE).write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return StoredModel(tag="tiny:1", path=path, created_at="2020-01-01T00:00:00+00:00", metadata=metadata(**changes))
