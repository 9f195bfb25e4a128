"""One model in other forms, and graphs of every dtype with the values that are lost most easily."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.matrix.cases import Case
from tests.matrix.zoo.making import HALF, ROWS, Rows, classification, convert, mlp, quietly, raw

# Weights of 8 bits change a probability so much.
QUANTISED = 0.05


def one_row() -> Case:
    """A batch of 1, as some exporters fix it."""
    from skl2onnx.common.data_types import FloatTensorType

    return classification("one_row", mlp(), convert(mlp(), [("X", FloatTensorType([1, 4]))]))


def weights_beside() -> Case:
    return replace(_numbers("weights_beside", _plain()), has_weights_beside=True)


def _plain() -> onnx.ModelProto:
    """The network as PyTorch writes one: layers that end in a softmax, and no names of classes."""
    (first, second), (one, other) = mlp().coefs_, mlp().intercepts_
    weights = {"first": first, "one": one, "second": second, "other": other}
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Gemm", ["X", "first", "one"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["positive"]),
            helper.make_node("Gemm", ["positive", "second", "other"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "network",
        [value("X", TensorProto.FLOAT, ["n", 4])],
        [value("probabilities", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(body, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _numbers(name: str, graph: onnx.ModelProto, rows: Rows = ROWS, **changes: Any) -> Case:
    """The network without names of classes in its graph."""
    labels = tuple(map(str, mlp().classes_))
    options = ("--labels", ",".join(labels))
    return classification(name, mlp(), graph, rows, scores="probabilities", options=options, **changes)


def half() -> Case:
    """float16 inside, in and out."""
    from onnxconverter_common.float16 import convert_float_to_float16

    graph = quietly(lambda: convert_float_to_float16(_plain()))
    return _numbers("half", graph, ROWS.astype(np.float16), tolerance=HALF, asked=ROWS)


def half_inside() -> Case:
    """float16 inside, float32 in and out."""
    from onnxconverter_common.float16 import convert_float_to_float16

    return _numbers(
        "half_inside", quietly(lambda: convert_float_to_float16(_plain(), keep_io_types=True)), tolerance=HALF
    )


def quantised_as_it_goes() -> Case:
    """int8 weights; inputs are quantised by the largest in a call, so that rows are computed alone."""
    from onnxruntime.quantization import quantize_dynamic

    with TemporaryDirectory() as directory:
        source, target = Path(directory) / "source.onnx", Path(directory) / "target.onnx"
        source.write_bytes(_plain().SerializeToString())
        quietly(lambda: quantize_dynamic(source, target))
        return _numbers("quantised_as_it_goes", onnx.load(target), tolerance=QUANTISED)


def quantised() -> Case:
    """int8 weights and values, calibrated before."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    from tests.matrix.zoo.making import FLOWERS

    class Flowers(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"X": FLOWERS}])

        def get_next(self) -> dict[str, Rows] | None:
            return next(self.batches, None)

    with TemporaryDirectory() as directory:
        source, target = Path(directory) / "source.onnx", Path(directory) / "target.onnx"
        source.write_bytes(_plain().SerializeToString())
        quietly(lambda: quantize_static(source, target, Flowers()))
        return _numbers("quantised", onnx.load(target), tolerance=QUANTISED)


# Values that are lost most easily


def _copies(kind: int, rows: Rows) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    shape = ["n", rows.shape[1]]
    body = helper.make_graph(
        [helper.make_node("Identity", ["given"], ["copy"])],
        "copies",
        [value("given", kind, shape)],
        [value("copy", kind, shape)],
    )
    return helper.make_model(body, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def whole() -> Case:
    """Whole numbers beyond what a float64 holds."""
    rows = np.array([[2**53 + 1, -(2**53) - 1], [2**63 - 1, -(2**63)], [0, 1]])
    return raw("whole", _copies(TensorProto.INT64, rows), {"copy": rows}, rows)


def precise() -> Case:
    """float64 to the last digit: tiny, huge, and below zero by nothing."""
    rows = np.array([[0.1, 1 / 3], [5e-324, -0.0], [1.7976931348623157e308, -1e-300], [2**53 + 2.0, 1e23]])
    return raw(
        "precise", _copies(TensorProto.DOUBLE, rows), {"copy": rows}, rows, options=("--task", "raw"), tolerance=0
    )


def words() -> Case:
    """Text of every kind: empty, quoted, cut short in C, of other planes, composed in two ways."""
    rows = np.array(
        [["", "a\0b"], ['"quoted" \\ \n\t', "서울 🐈‍⬛"], ["é", "e\u0301"], ["\u202eright", "\x01\x7f\ufeff"]], object
    )
    return raw("words", _copies(TensorProto.STRING, rows), {"copy": rows}, rows)


def every_dtype() -> Case:
    """Bounds of all dtypes, an input each."""
    kinds = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    inputs: dict[str, Any] = {"bool": np.array([[True, False]]), "string": np.array([["é", ""]], object)}
    for kind in kinds:
        bounds = np.finfo(kind) if kind.startswith("float") else np.iinfo(kind)
        inputs[kind] = np.array([[bounds.min, bounds.max]], kind)
    inputs = {name: np.concatenate([array, array[:, ::-1]]) for name, array in inputs.items()}
    value = helper.make_tensor_value_info
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_copy"]) for name in inputs],
        "every_dtype",
        [value(name, kind, ["n", 2]) for name, kind in types.items()],
        [value(f"{name}_copy", kind, ["n", 2]) for name, kind in types.items()],
    )
    return Case(
        "every_dtype",
        helper.make_model(body, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
        (),
        kind="tensors",
        task="raw",
        inputs=inputs,
        outputs={f"{name}_copy": array for name, array in inputs.items()},
        body={"inputs": {name: array.tolist() for name, array in inputs.items()}},
        tolerance=0,
    )


def _roots(name: str, rows: Rows, *options: str) -> Case:
    body = helper.make_graph(
        [helper.make_node("Sqrt", ["given"], ["roots"])],
        name,
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("roots", TensorProto.FLOAT, ["n", 2])],
    )
    graph = helper.make_model(body, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with np.errstate(invalid="ignore"):
        outputs = {"roots": np.sqrt(rows)}
    return Case(
        name,
        graph,
        options,
        kind="rows",
        task="regression",
        inputs={"given": rows},
        outputs=outputs,
        scores="roots",
        body={"data": rows.tolist()},
    )


def missing_roots() -> Case:
    """NaN in an answer, of a model that was said to give it, is null in JSON."""
    return _roots("missing_roots", np.array([[4.0, 2.0], [-1.0, 1.0]], np.float32), "--allow-nan")


def roots() -> Case:
    return _roots("roots", np.array([[4.0, 2.0], [9.0, 1.0]], np.float32))


MAKE: dict[str, Callable[[], Case]] = {
    each.__name__: each
    for each in (
        *(one_row, weights_beside, half, half_inside, quantised_as_it_goes, quantised),
        *(whole, precise, words, every_dtype, missing_roots, roots),
    )
}
