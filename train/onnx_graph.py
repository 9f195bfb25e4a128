"""Small operations on a finished ONNX graph (`onnx.ModelProto`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ROWS = "N"
"""Name of the dimension of any length."""


def name_rows(model: Any, *, classes: int) -> Any:
    """Declare the one input as [N, …] and the one output as float32 [N, classes].

    Converters leave the batch dimension or the type out or call it `unk__604`; ONNX Runtime shows it to whoever
    asks, and checks it against what the graph computes.
    """
    from onnx import TensorProto

    (graph_input,), (graph_output,) = model.graph.input, model.graph.output
    graph_input.type.tensor_type.shape.dim[0].dim_param = ROWS
    graph_output.type.tensor_type.elem_type = TensorProto.FLOAT
    shape = graph_output.type.tensor_type.shape
    del shape.dim[:]
    shape.dim.add().dim_param = ROWS
    shape.dim.add().dim_value = classes
    return model


def rename_output(model: Any, name: str) -> Any:
    """Give the one output another name."""
    (graph_output,) = model.graph.output
    for node in model.graph.node:
        for position, output in enumerate(node.output):
            if output == graph_output.name:
                node.output[position] = name
        for position, value in enumerate(node.input):
            if value == graph_output.name:
                node.input[position] = name
    graph_output.name = name
    return model


def drop_unused_initializers(model: Any) -> Any:
    """Remove constants that no node reads (ONNX Runtime warns of each when it loads the graph)."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [initializer for initializer in model.graph.initializer if initializer.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def opset(model: Any) -> int:
    """Version of the main operator set."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}))


def run(model: bytes | str, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Run a graph with one input and one output under ONNX Runtime on the CPU; `model` is its bytes or its path."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(["probabilities"], {name: values})
    return np.asarray(output, dtype=np.float32)
