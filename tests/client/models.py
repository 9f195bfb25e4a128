"""Small models of every kind and task, stored as `serving models add` stores them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.store.models import ONNX_FILE, ImagePreprocessing, ModelMetadata, StoredModel, TensorSpec

IR_VERSION = 8
SIDE = 8
_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "string": TensorProto.STRING,
}
Spec = tuple[str, str, list[int | None]]


def _weights(name: str, rows: int, columns: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).normal(size=(rows, columns)).astype(np.float32)
    return numpy_helper.from_array(values, name)


def _stored(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[Spec],
    outputs: list[Spec],
    constants: list[onnx.TensorProto],
    **metadata: Any,
) -> StoredModel:
    values = [
        [helper.make_tensor_value_info(name, _TYPES[dtype], shape) for name, dtype, shape in specs]
        for specs in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, path.name, *values, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path.mkdir()
    (path / ONNX_FILE).write_bytes(
        helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets).SerializeToString()
    )
    described = {
        "format": "onnx",
        "versions": {},
        "onnx_ir_version": IR_VERSION,
        "onnx_opset": 17,
        "inputs": [TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in inputs],
        "outputs": [TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in outputs],
    }
    return StoredModel(
        tag=f"{path.name}:1",
        path=path,
        created_at="2026-01-01T00:00:00+00:00",
        metadata=ModelMetadata(**{**described, **metadata}),
    )


def make_models(directory: Path) -> Iterator[StoredModel]:
    """One of each; its name is the tag's."""

    def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)

    linear = node("MatMul", "x w", "y")
    abc = {"task": "classification", "scores": "y", "labels": ["a", "b", "c"]}
    scores: Spec = ("y", "float32", [None, 3])

    yield _stored(
        directory / "flowers",
        [node("MatMul", "x w", "z"), node("Softmax", "z", "y", axis=-1)],
        [("x", "float32", [None, 4])],
        [scores],
        [_weights("w", 4, 3)],
        kind="rows",
        feature_names=["length", "width", "petal, length", "depth"],
        **abc,
    )
    # A column for each input, as skl2onnx exports pipelines; the graph gives scores, no probabilities.
    cities = node(
        "LabelEncoder", "city", "code", keys_strings=["Bern", "Paris"], values_floats=[1.0, 2.0], default_float=0.0
    )
    cities.domain = "ai.onnx.ml"
    yield _stored(
        directory / "people",
        [
            cities,
            node("Cast", "visits", "often", to=TensorProto.FLOAT),
            node("Concat", "age code often", "all", axis=1),
            node("MatMul", "all w", "y"),
        ],
        [("age", "float32", [None, 1]), ("city", "string", [None, 1]), ("visits", "int64", [None, 1])],
        [scores],
        [_weights("w", 3, 3)],
        kind="rows",
        activation="softmax",
        **abc,
    )
    # Missing values count as -1.
    yield _stored(
        directory / "gaps",
        [
            node("IsNaN", "x", "missing"),
            node("Where", "missing minus x", "full"),
            node("MatMul", "full w", "z"),
            node("Softmax", "z", "y", axis=-1),
        ],
        [("x", "float32", [None, 2])],
        [scores],
        [_weights("w", 2, 3), numpy_helper.from_array(np.array([-1], np.float32), "minus")],
        kind="rows",
        allow_nan=True,
        **abc,
    )
    for name, width in (("price", 1), ("prices", 2)):
        yield _stored(
            directory / name,
            [linear, node("Identity", "x", "seen")],
            [("x", "float32", [None, 3])],
            [("seen", "float32", [None, 3]), ("y", "float32", [None, width])],
            [_weights("w", 3, width)],
            kind="rows",
            task="regression",
            scores="y",
        )
    yield _stored(
        directory / "vectors",
        [linear],
        [("x", "float32", [None, 3])],
        [("y", "float32", [None, 2])],
        [_weights("w", 3, 2)],
        kind="rows",
    )
    # Two inputs of different dtypes, and text out.
    yield _stored(
        directory / "pair",
        [node("MatMul", "user/x w", "total"), node("Mul", "count count", "squared"), node("Identity", "words", "said")],
        [("user/x", "float32", [None, 2]), ("count", "int64", [None]), ("words", "string", [None, 2])],
        [("total", "float32", [None, 1]), ("squared", "int64", [None]), ("said", "string", [None, 2])],
        [_weights("w", 2, 1)],
        kind="tensors",
    )
    # The batch is not the first dimension, and there is a scalar.
    yield _stored(
        directory / "state",
        [node("Add", "h rate", "next")],
        [("h", "float32", [2, None, 3]), ("rate", "float32", [])],
        [("next", "float32", [2, None, 3])],
        [],
        kind="tensors",
        batching="none",
    )
    pixels: list[Spec] = [("pixels_in", "uint8", [None, SIDE, SIDE, 3])]
    mean = [
        node("Cast", "pixels_in", "f", to=TensorProto.FLOAT),
        node("ReduceMean", "f", "x", axes=[1, 2], keepdims=0),
        node("Mul", "x small", "s"),
        node("MatMul", "s w", "y"),
    ]
    small = numpy_helper.from_array(np.array([0.01], np.float32), "small")
    image = {"kind": "image", "image": ImagePreprocessing(width=SIDE, height=SIDE)}
    two = {"task": "classification", "scores": "y", "labels": ["dark", "light"], "activation": "softmax"}
    for name, width, task in (
        ("picture", 2, two),
        ("depth", 1, {"task": "regression", "scores": "y"}),
        ("embedding", 2, {}),
    ):
        yield _stored(
            directory / name,
            mean,
            pixels,
            [("y", "float32", [None, width])],
            [_weights("w", 3, width), small],
            **image,
            **task,
        )
