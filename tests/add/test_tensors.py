"""Graphs of any tensors: several inputs and outputs, all dtypes, shapes of every kind, weights beside the graph."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.add.add import add_model
from serving.add.options import AddOptions
from serving.add.trial import DYNAMIC
from serving.core.errors import InvalidInputError, ModelError
from serving.core.tensors import DTYPES, strings
from serving.store.models import open_model
from tests.add import graphs
from tests.add.graphs import Asked, add, floats, graph, info, node, run

pytestmark = pytest.mark.usefixtures("bentoml_home")
RANDOM = np.random.default_rng(3)


def reasons(added: Any) -> dict[str, str]:
    return {reason.subject: f"{reason.decided} | {reason.why}" for reason in added.reasons}


def two_towers() -> onnx.ModelProto:
    return graph(
        [node("MatMul", ["user", "u"], ["user_vector"]), node("MatMul", ["item", "i"], ["item_vector"])],
        [floats("user", ["n", 4]), floats("item", ["n", 3])],
        [floats("user_vector", ["n", 2]), floats("item_vector", ["n", 2])],
        {"u": RANDOM.normal(size=(4, 2)).astype(np.float32), "i": RANDOM.normal(size=(3, 2)).astype(np.float32)},
    )


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    proto = two_towers()
    _, stored = add(proto, tmp_path)
    assert (stored.metadata.kind, stored.metadata.task, stored.metadata.batching) == ("tensors", "raw", "free")
    tensors = {name: RANDOM.normal(size=(2, width)).astype(np.float32) for name, width in (("user", 4), ("item", 3))}
    found = Asked(stored).predict({"inputs": {name: array.tolist() for name, array in tensors.items()}})["outputs"]
    for name, expected in run(proto, tensors).items():
        assert np.allclose(found[name], expected, rtol=1e-6)


DTYPE_VALUES: dict[str, list[Any]] = {
    "float16": [1.5, -2.0],
    "float32": [1.5, -2.25],
    "float64": [1e-300, 2.0],
    "int8": [-128, 127],
    "int16": [-30000, 7],
    "int32": [-(2**31), 5],
    "int64": [2**53 + 1, -1],
    "uint8": [0, 255],
    "uint16": [65535, 1],
    "uint32": [2**32 - 1, 1],
    "uint64": [2**63 - 1, 1],
    "bool": [True, False],
    "string": ["Zürich", ""],
}


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bytes"])
def test_every_dtype(tmp_path: Path, dtype: str) -> None:
    kind = TensorProto.STRING if dtype == "string" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    # Rank 3, so that it is no table.
    proto = graph(
        [node("Identity", ["a/b.c:0"], ["d/e.f:0"])],
        [info("a/b.c:0", kind, ["n", 1, 2])],
        [info("d/e.f:0", kind, None)],
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.inputs[0].model_dump() == {"name": "a/b.c:0", "dtype": dtype, "shape": [None, 1, 2]}
    assert stored.metadata.outputs[0].model_dump() == {"name": "d/e.f:0", "dtype": dtype, "shape": [None, 1, 2]}
    values = [[DTYPE_VALUES[dtype]]]
    assert Asked(stored).predict({"inputs": {"a/b.c:0": values}}) == {"outputs": {"d/e.f:0": values}}


def test_a_batch_of_one_is_served_row_by_row(tmp_path: Path) -> None:
    """An error that depends on how many ask at a time would be the worst of all."""
    weights = RANDOM.normal(size=(3, 2)).astype(np.float32)
    proto = graph([node("MatMul", ["x", "w"], ["y"])], [floats("x", [1, 3])], [floats("y", [1, 2])], {"w": weights})
    added, stored = add(proto, tmp_path)
    assert stored.metadata.batching == "one"
    assert [spec.shape for spec in (*stored.metadata.inputs, *stored.metadata.outputs)] == [[None, 3], [None, 2]]
    assert "one row at a time" in reasons(added)["batching"]
    rows = RANDOM.normal(size=(5, 3)).astype(np.float32)
    found = Asked(stored).predict({"data": rows.astype(float).tolist()})["prediction"]
    assert np.allclose(found, np.concatenate([run(proto, {"x": row[np.newaxis]})["y"] for row in rows]), rtol=1e-5)


def test_a_batch_of_one_that_is_declared_as_free(tmp_path: Path) -> None:
    """As PyTorch exports a reshape whose batch was traced."""
    proto = graph(
        [node("Reshape", ["x", "shape"], ["y"])],
        [floats("x", ["batch", 2, 2])],
        [floats("y", ["batch", 4])],
        {"shape": np.array([1, 4])},
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.batching == "one"
    values = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    assert Asked(stored).predict({"inputs": {"x": values}})["outputs"]["y"] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def recurrent() -> onnx.ModelProto:
    """As silero-vad: the state has its batch on the second dimension, and the rate is a scalar."""
    return graph(
        [
            node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
            node("Div", ["rate", "thousand"], ["factor"]),
            node("ReduceMean", ["input"], ["mean"], axes=[1], keepdims=1),
            node("Mul", ["mean", "factor"], ["scaled"]),
            node("Sigmoid", ["scaled"], ["output"]),
            node("Add", ["state", "scaled"], ["stateN"]),
        ],
        [floats("input", ["batch", "samples"]), floats("state", [2, "batch", 3]), info("sr", TensorProto.INT64, [])],
        [floats("output", ["batch", 1]), floats("stateN", [2, "batch", 3])],
        {"thousand": np.float32(1000)},
    )


def test_recurrent_state_and_a_scalar(tmp_path: Path) -> None:
    proto = recurrent()
    added, stored = add(proto, tmp_path)
    assert (stored.metadata.kind, stored.metadata.task, stored.metadata.batching) == ("tensors", "raw", "none")
    assert "sr is a scalar" in reasons(added)["batching"]
    assert {spec.name: spec.shape for spec in stored.metadata.inputs} == {
        "input": [None, None],
        "state": [2, None, 3],
        "sr": [],
    }
    tensors = {
        "input": RANDOM.normal(size=(1, 8)).astype(np.float32),
        "state": RANDOM.normal(size=(2, 1, 3)).astype(np.float32),
        "sr": np.array(16000),
    }
    found = Asked(stored).predict({"inputs": {name: array.tolist() for name, array in tensors.items()}})["outputs"]
    for name, expected in run(proto, tensors).items():
        assert np.allclose(found[name], expected, rtol=1e-6)


def test_rows_that_are_not_independent_are_not_batched(tmp_path: Path) -> None:
    proto = graph(
        [node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1), node("Sub", ["x", "mean"], ["y"])],
        [floats("x", ["n", 3])],
        [floats("y", ["n", 3])],
    )
    added, stored = add(proto, tmp_path)
    assert (stored.metadata.kind, stored.metadata.batching) == ("tensors", "none")
    assert "something else together" in reasons(added)["batching"]
    assert Asked(stored).predict({"inputs": {"x": [[1, 1, 1], [3, 3, 3]]}})["outputs"]["y"] == [[-1] * 3, [1] * 3]
    with pytest.raises(ModelError, match="--kind rows: its inputs have no rows"):
        add(proto, tmp_path, kind="rows")
    with pytest.raises(ModelError, match="--batching free: the graph cannot be run so"):
        add(proto, tmp_path, batching="free")


def test_initialisers_that_are_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    """As files before IR version 4 have all of them."""
    proto = graph(
        [node("MatMul", ["x", "w"], ["y"])],
        [floats("x", ["n", 2]), floats("w", [2, 2])],
        [floats("y", ["n", 2])],
        {"w": np.eye(2, dtype=np.float32) * 2},
        ir_version=3,
        opset=8,
    )
    _, stored = add(proto, tmp_path)
    assert [spec.name for spec in stored.metadata.inputs] == ["x"]
    assert Asked(stored).predict({"data": [[1.0, 2.0]]})["prediction"] == [[2.0, 4.0]]


def test_sequences_of_any_length(tmp_path: Path) -> None:
    """As a transformer: codes [batch, sequence] and their mask, vectors [batch, sequence, width] and [batch, width]."""
    table = RANDOM.normal(size=(5, 3)).astype(np.float32)
    proto = graph(
        [
            node("Gather", ["table", "input_ids"], ["hidden"]),
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "two"], ["mask3"]),
            node("Mul", ["hidden", "mask3"], ["last_hidden_state"]),
            node("ReduceSum", ["last_hidden_state", "one"], ["pooled"], keepdims=0),
        ],
        [info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")],
        [floats("last_hidden_state", ["batch", "sequence", 3]), floats("pooled", None)],
        {"table": table, "two": np.array([2]), "one": np.array([1])},
    )
    _, stored = add(proto, tmp_path)
    assert (stored.metadata.kind, stored.metadata.batching) == ("tensors", "free")
    assert {spec.name: spec.shape for spec in stored.metadata.outputs} == {
        "last_hidden_state": [None, None, 3],
        "pooled": [None, 3],
    }
    ids = [[1, 4, 0, 2], [0, 0, 3, 1]]
    found = Asked(stored).predict({"inputs": {"input_ids": ids, "attention_mask": [[1] * 4] * 2}})["outputs"]
    assert np.allclose(found["pooled"], table[np.array(ids)].sum(axis=1), rtol=1e-5)
    with pytest.raises(InvalidInputError):
        Asked(stored).predict({"inputs": {"input_ids": [[99]], "attention_mask": [[1]]}})


def test_lengths_that_depend_on_values(tmp_path: Path) -> None:
    proto = graph(
        [node("NonZero", ["x"], ["places"])], [floats("x", ["n", 2])], [info("places", TensorProto.INT64, None)]
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.batching == "none"
    assert stored.metadata.outputs[0].shape[1] is None
    assert Asked(stored).predict({"inputs": {"x": [[0.0, 1.0], [1.0, 0.0]]}})["outputs"]["places"] == [[0, 1], [1, 0]]


def test_an_input_of_unknown_rank_needs_a_sample(tmp_path: Path) -> None:
    proto = graph([node("Neg", ["x"], ["y"])], [floats("x", None)], [floats("y", None)])
    (tmp_path / "sample.json").write_text('{"inputs": {"x": [[[1, 2]], [[3, 4]]]}}')
    with pytest.raises(ModelError, match="number of dimensions of x: give a --sample"):
        add(proto, tmp_path)
    _, stored = add(proto, tmp_path, sample=tmp_path / "sample.json")
    assert (stored.metadata.inputs[0].shape, stored.metadata.batching) == ([None, None, None], "free")
    assert Asked(stored).predict({"inputs": {"x": [[[1.0]]]}})["outputs"]["y"] == [[[-1.0]]]


# Quantised models


def test_a_model_of_eight_bits(tmp_path: Path) -> None:
    """Weights and activations are quantised with fixed scales: rows stay independent."""
    proto = graph(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
            node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
            node("DequantizeLinear", ["wq", "scale", "zero8"], ["wd"]),
            node("MatMul", ["xd", "wd"], ["y"]),
        ],
        [floats("x", ["n", 3])],
        [floats("y", ["n", 2])],
        {
            "scale": np.float32(0.05),
            "zero": np.uint8(128),
            "zero8": np.int8(0),
            "wq": RANDOM.integers(-100, 100, (3, 2)).astype(np.int8),
        },
    )
    _, stored = add(proto, tmp_path)
    assert stored.metadata.batching == "free"
    rows = np.array([[1.0, 2.0, -3.0], [0.1, 0.2, 0.3]], np.float32)
    found = Asked(stored).predict({"data": rows.astype(float).tolist()})["prediction"]
    assert np.allclose(found, run(proto, {"x": rows})["y"], rtol=1e-5)


def test_a_model_that_quantises_its_input_as_it_comes_is_asked_one_row_at_a_time(tmp_path: Path) -> None:
    """The scale is that of all rows of a call: together they would get something else than alone."""
    proto = graph(
        [
            node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
            node("MatMulInteger", ["xq", "w", "xz"], ["yi"]),
            node("Cast", ["yi"], ["yf"], to=TensorProto.FLOAT),
            node("Mul", ["yf", "xs"], ["y"]),
        ],
        [floats("x", ["n", 3])],
        [floats("y", ["n", 2])],
        {"w": RANDOM.integers(-100, 100, (3, 2)).astype(np.int8)},
    )
    added, stored = add(proto, tmp_path)
    assert stored.metadata.batching == "one"
    assert DYNAMIC in reasons(added)["batching"]
    rows = np.array([[100.0, 2.0, -3.0], [0.1, 0.2, 0.3]], np.float32)
    found = Asked(stored).predict({"data": rows.astype(float).tolist()})["prediction"]
    assert np.allclose(found, np.concatenate([run(proto, {"x": row[np.newaxis]})["y"] for row in rows]), rtol=1e-5)
    assert not np.allclose(found, run(proto, {"x": rows})["y"], rtol=1e-2)
    assert add(proto, tmp_path, batching="free")[1].metadata.batching == "free"


# External data


def external(directory: Path, location: str = "weights/w.bin", **changes: Any) -> Path:
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    proto = graph([node("MatMul", ["x", "w"], ["y"])], [floats("x", ["n", 3])], [floats("y", ["n", 2])], {"w": weights})
    (tensor,) = proto.graph.initializer
    onnx.external_data_helper.set_external_data(tensor, location, **{"offset": 4, "length": 24} | changes)
    tensor.ClearField("raw_data")
    (directory / "weights").mkdir(exist_ok=True)
    (directory / "weights/w.bin").write_bytes(b"\0" * 4 + weights.tobytes())
    return graphs.save(proto, directory)


def test_weights_beside_the_graph_are_copied_with_it(tmp_path: Path) -> None:
    path = external(tmp_path, "./weights/w.bin")
    (tmp_path / "weights/w.bin").chmod(0o400)
    stored = open_model(add_model(path, AddOptions(name="tried")).tag)
    copy = stored.path / "weights/w.bin"
    assert stored.metadata.files["weights/w.bin"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert copy.stat().st_mode & 0o777 == 0o644
    assert Asked(stored).predict({"data": [[1.0, 0.0, 1.0]]})["prediction"] == [[4.0, 6.0]]


@pytest.mark.parametrize(
    ("location", "changes", "message"),
    [
        ("/etc/passwd", {}, "outside of the model's directory"),
        ("../w.bin", {}, "outside of the model's directory"),
        ("weights/../../w.bin", {}, "outside of the model's directory"),
        ("C:\\w.bin", {}, "outside of the model's directory"),
        ("link", {}, "behind a symbolic link"),
        ("linked/w.bin", {}, "behind a symbolic link"),
        ("nowhere.bin", {}, "is missing"),
        ("*/_ORT_MEM_ADDR_/*", {}, "is missing"),
        ("weights", {}, "is no file"),
        ("model.yaml", {}, "may not be called"),
        ("custom_objects.pkl", {}, "may not be called"),
        ("weights/w.bin", {"offset": 20}, "shorter than the graph says"),
        ("weights/w.bin", {"length": 2**40}, "shorter than the graph says"),
    ],
)
def test_weights_that_are_elsewhere_are_refused(
    tmp_path: Path, location: str, changes: dict[str, Any], message: str, bentoml_home: Path
) -> None:
    path = external(tmp_path, location, **changes)
    (tmp_path / "link").symlink_to(tmp_path / "weights/w.bin")
    (tmp_path / "linked").symlink_to(tmp_path / "weights")
    (tmp_path / "model.yaml").write_bytes(bytes(64))
    (tmp_path / "custom_objects.pkl").write_bytes(bytes(64))
    with pytest.raises(ModelError, match=message) as raised:
        add_model(path, AddOptions(name="tried"))
    assert len(str(raised.value).splitlines()) == 1
    assert list((bentoml_home / "models").iterdir()) == []


def test_strings_go_in_and_out_as_text(tmp_path: Path) -> None:
    proto = graph(
        [
            node(
                "LabelEncoder",
                ["city"],
                ["canton"],
                domain="ai.onnx.ml",
                keys_strings=["Bern", "Zug"],
                values_strings=["BE", "ZG"],
                default_string="?",
            )
        ],
        [info("city", TensorProto.STRING, ["n"])],
        [info("canton", TensorProto.STRING, ["n"])],
    )
    added, stored = add(proto, tmp_path)
    assert added.sample == {"data": [["Bern"]]}
    assert run(proto, {"city": strings(["Zug"])})["canton"].tolist() == ["ZG"]
    assert Asked(stored).predict({"data": [["Zug"], ["Paris"]]})["outputs"] == {"canton": ["ZG", "?"]}


def test_an_output_of_a_constant_array_is_no_label(tmp_path: Path) -> None:
    """A table whose declared size is a lie is not read."""
    proto = graph(
        [node("Gather", ["classes", "index"], ["label"]), node("Softmax", ["x"], ["p"])],
        [floats("x", ["n", 2]), info("index", TensorProto.INT64, ["n"])],
        [info("label", TensorProto.INT64, ["n"]), floats("p", ["n", 2])],
        {"classes": np.array([7, 9])},
    )
    _, stored = add(proto, tmp_path, kind="tensors")
    assert stored.metadata.labels == ["7", "9"]
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([7, 9, 11]), "classes"))
    _, stored = add(proto, tmp_path, kind="tensors")
    assert stored.metadata.labels == ["class_0", "class_1"]
