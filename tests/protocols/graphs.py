"""Small graphs of every kind that the protocols have to carry, as stored models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, helper

from serving.core.signature import TensorSpec
from serving.core.tensors import BY_ONNX, DTYPES
from serving.store.models import StoredModel
from tests.tiny_models import IR_VERSION, OPSET, tiny_model

NUMBERS = [name for name, dtype in DTYPES.items() if not dtype.is_text]


def _graph(nodes: list[NodeProto], inputs: dict[str, Any], outputs: dict[str, Any]) -> ModelProto:
    """Tensors are given as (element type of ONNX, shape)."""

    def infos(tensors: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, *tensor) for name, tensor in tensors.items()]

    graph = helper.make_graph(nodes, "tiny", infos(inputs), infos(outputs))
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


def _specs(tensors: dict[str, Any]) -> list[TensorSpec]:
    return [
        TensorSpec(name=name, dtype=BY_ONNX[f"tensor({_onnx_name(element)})"].name, shape=shape)
        for name, (element, shape) in tensors.items()
    ]


def _onnx_name(element: int) -> str:
    return TensorProto.DataType.Name(element).lower()


def _model(
    directory: Path, name: str, nodes: list[NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], **changes: Any
) -> StoredModel:
    path = directory / name
    path.mkdir()
    values = {"kind": "tensors", "task": "raw", "labels": []} | changes
    return tiny_model(path, _graph(nodes, inputs, outputs), inputs=_specs(inputs), outputs=_specs(outputs), **values)


def any_models(directory: Path) -> dict[str, StoredModel]:
    """Every model by its name.

    - `towers`: two inputs [N, 2] and [N, 3], outputs of both sums, `scores/a` [N, 1] and `scores/b` [N, 1].
    - `mixed`: rows of a table with one input for each column, `age` float32, `city` string, `seats` int64, each [N, 1];
      a classifier whose label is the city and whose probability comes from the age.
    - `missing`: one input that may have NaN.
    - `step`: a scalar, a vector without rows and a state; nothing is batched.
    - `same_<dtype>`: gives what it takes, [N, 2].
    - `free`: strings [N], one in each row, and a free second dimension, [N, ?].
    """
    node = helper.make_node
    as_float, string, int64 = TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64
    found = {
        "towers": _model(
            directory,
            "towers",
            [
                node("ReduceMean", ["user"], ["scores/a"], axes=[1], keepdims=1),
                node("ReduceMean", ["item"], ["scores/b"], axes=[1], keepdims=1),
            ],
            {"user": (as_float, [None, 2]), "item": (as_float, [None, 3])},
            {"scores/a": (as_float, [None, 1]), "scores/b": (as_float, [None, 1])},
        ),
        "mixed": _model(
            directory,
            "mixed",
            [
                node("Sigmoid", ["age"], ["yes"]),
                node("Constant", [], ["one"], value=helper.make_tensor("one", as_float, [1], [1.0])),
                node("Sub", ["one", "yes"], ["no"]),
                node("Concat", ["no", "yes"], ["probabilities"], axis=1),
                node("Identity", ["city"], ["place"]),
                node("Identity", ["seats"], ["places"]),
            ],
            {"age": (as_float, [None, 1]), "city": (string, [None, 1]), "seats": (int64, [None, 1])},
            {"probabilities": (as_float, [None, 2]), "place": (string, [None, 1]), "places": (int64, [None, 1])},
            kind="rows",
            task="classification",
            scores="probabilities",
            labels=["young", "old"],
        ),
        "missing": _model(
            directory,
            "missing",
            [node("IsNaN", ["x"], ["missing"]), node("Identity", ["x"], ["y"])],
            {"x": (as_float, [None, 2])},
            {"missing": (TensorProto.BOOL, [None, 2]), "y": (as_float, [None, 2])},
            allow_nan=True,
        ),
        "step": _model(
            directory,
            "step",
            [
                node("Add", ["state", "rate"], ["next"]),
                node("Identity", ["rate"], ["same"]),
                node("Identity", ["words"], ["said"]),
            ],
            {"state": (TensorProto.DOUBLE, [2, 3]), "rate": (TensorProto.DOUBLE, []), "words": (string, [None])},
            {"next": (TensorProto.DOUBLE, [2, 3]), "same": (TensorProto.DOUBLE, []), "said": (string, [None])},
            batching="none",
        ),
        "free": _model(
            directory,
            "free",
            [node("Identity", ["words"], ["said"]), node("Identity", ["values"], ["same"])],
            {"words": (string, [None]), "values": (int64, [None, None])},
            {"said": (string, [None]), "same": (int64, [None, None])},
        ),
    }
    for name in [*NUMBERS, "string"]:
        element = TensorProto.DataType.Value(DTYPES[name].onnx.removeprefix("tensor(").removesuffix(")").upper())
        found[f"same_{name}"] = _model(
            directory,
            f"same_{name}",
            [node("Identity", ["x"], ["y"])],
            {"x": (element, [None, 2])},
            {"y": (element, [None, 2])},
        )
    return found
