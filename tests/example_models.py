"""Small ONNX models of every kind and task, which answer what NumPy computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES
from serving.store.models import ONNX_FILE, ImagePreprocessing, ModelMetadata, StoredModel

OPSET = 17
IR_VERSION = 8
_ELEMENT = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}
node = helper.make_node


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    assert dtype in DTYPES
    return TensorSpec(name=name, dtype=dtype, shape=list(shape))


def stored(
    path: Path,
    name: str,
    nodes: Sequence[NodeProto],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    constants: dict[str, Any] | None = None,
    **metadata: Any,
) -> StoredModel:
    """Write a graph to a directory below `path` and describe it."""
    one = metadata.get("batching") == "one"

    def declared(each: TensorSpec) -> Any:
        shape = [1, *each.shape[1:]] if one else each.shape
        return helper.make_tensor_value_info(each.name, _ELEMENT[each.dtype], shape)

    graph = helper.make_graph(
        list(nodes),
        name,
        [declared(each) for each in inputs],
        [declared(each) for each in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in (constants or {}).items()],
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)],
    )
    onnx.checker.check_model(model)
    directory = path / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ONNX_FILE).write_bytes(model.SerializeToString())
    record = ModelMetadata(
        format="onnx",
        inputs=list(inputs),
        outputs=list(outputs),
        versions={},
        onnx_ir_version=IR_VERSION,
        onnx_opset=OPSET,
        **metadata,
    )
    return StoredModel(f"{name}:1", directory, "2020-01-01T00:00:00+00:00", record)


# A table of a string, a number and a whole number: one tensor for each column, as skl2onnx makes them.

CITIES = {"Bern": 1.0, "Paris": -1.0}
FLATS = ["cheap", "dear"]


def flats(path: Path, **metadata: Any) -> StoredModel:
    """`city`, `area` and `rooms` to the probabilities of `cheap` and `dear`."""
    nodes = [
        node("LabelEncoder", ["city"], ["known"], domain="ai.onnx.ml", keys_strings=list(CITIES),
             values_floats=list(CITIES.values()), default_float=0.0),
        node("Cast", ["rooms"], ["rooms_float"], to=TensorProto.FLOAT),
        node("Mul", ["area", "hundredth"], ["scaled"]),
        node("Add", ["known", "scaled"], ["some"]),
        node("Add", ["some", "rooms_float"], ["score"]),
        node("Neg", ["score"], ["against"]),
        node("Concat", ["against", "score"], ["scores"], axis=1),
        node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]  # fmt: skip
    inputs = [spec("city", "string", None, 1), spec("area", "float32", None, 1), spec("rooms", "int64", None, 1)]
    record = {"kind": "rows", "task": "classification", "scores": "probabilities", "labels": FLATS} | metadata
    return stored(path, "flats", nodes, inputs, [spec("probabilities", "float32", None, 2)],
                  {"hundredth": np.float32(0.01)}, **record)  # fmt: skip


def flats_expected(city: str, area: float, rooms: int) -> list[float]:
    score = CITIES.get(city, 0.0) + 0.01 * area + rooms
    exponentials = np.exp([-score, score])
    found: list[float] = (exponentials / exponentials.sum()).tolist()
    return found


# Regressions of a matrix.

WEIGHTS = np.array([[0.5, 1.0], [-1.0, 2.0], [0.25, -3.0]])


def regressor(path: Path, *, outputs: int = 1, **metadata: Any) -> StoredModel:
    """float64 `[N, 3]` to float64 `[N, outputs]`."""
    record = {"kind": "rows", "task": "regression", "scores": "variable", "feature_names": ["a", "b", "c"]} | metadata
    return stored(
        path,
        f"regressor{outputs}",
        [node("MatMul", ["X", "weights"], ["variable"])],
        [spec("X", "float64", None, 3)],
        [spec("variable", "float64", None, outputs)],
        {"weights": WEIGHTS[:, :outputs]},
        **record,
    )


def single(path: Path) -> StoredModel:
    """The regressor of one value as a graph that takes one row at a time."""
    return regressor(path / "single", batching="one")


# Named tensors.


def towers(path: Path) -> StoredModel:
    """`user` and `item` `[N, 2]` to `score` `[N]` and `both` `[N, 4]`."""
    nodes = [
        node("Mul", ["user", "item"], ["product"]),
        node("ReduceSum", ["product", "axis"], ["score"], keepdims=0),
        node("Concat", ["user", "item"], ["both"], axis=1),
    ]
    inputs = [spec("user", "float32", None, 2), spec("item", "float32", None, 2)]
    outputs = [spec("score", "float32", None), spec("both", "float32", None, 4)]
    return stored(path, "towers", nodes, inputs, outputs, {"axis": np.array([1])}, kind="tensors", task="raw")


def lengths(path: Path) -> StoredModel:
    """The means of `text` `[N, any]`, so that only rows of one length share a call."""
    nodes = [node("ReduceMean", ["text"], ["mean"], axes=[1], keepdims=0)]
    inputs, outputs = [spec("text", "float32", None, None)], [spec("mean", "float32", None)]
    return stored(path, "lengths", nodes, inputs, outputs, kind="tensors", task="raw")


def recurrent(path: Path) -> StoredModel:
    """`audio` of any length and `state` `[2, 1, 3]`, whose first dimensions are not rows, to the next `state`."""
    nodes = [
        node("ReduceMean", ["audio"], ["level"], keepdims=0),
        node("Add", ["state", "level"], ["next"]),
    ]
    inputs = [spec("audio", "float32", None), spec("state", "float32", 2, 1, 3)]
    outputs = [spec("level", "float32"), spec("next", "float32", 2, 1, 3)]
    return stored(path, "recurrent", nodes, inputs, outputs, kind="tensors", task="raw", batching="none")


# Images.

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def colours(path: Path, **metadata: Any) -> StoredModel:
    """float32 `[N, 3, 8, 6]`, normalised, to scores of the classes red, green and blue, which are the brightness."""
    nodes = [node("ReduceMean", ["input"], ["scores"], axes=[2, 3], keepdims=0)]
    image = ImagePreprocessing(width=6, height=8, layout="NCHW", scale=1 / 255, mean=MEAN, deviation=DEVIATION)
    record = {
        "kind": "image",
        "task": "classification",
        "scores": "scores",
        "activation": "softmax",
        "labels": ["red", "green", "blue"],
        "image": image,
    } | metadata
    inputs, outputs = [spec("input", "float32", None, 3, 8, 6)], [spec("scores", "float32", None, 3)]
    return stored(path, "colours", nodes, inputs, outputs, **record)
