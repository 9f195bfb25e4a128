"""What cannot be served is refused in one line that says what it is and what to do; nothing of it is stored."""

from __future__ import annotations

import builtins
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from serving.add.add import add_model
from serving.add.graph import load_graph
from serving.add.options import AddOptions
from serving.core.errors import ModelError
from tests.add import graphs
from tests.add.graphs import floats, graph, info, node

Make = Callable[[], onnx.ModelProto]


def identity(kind: int = TensorProto.FLOAT, **options: Any) -> onnx.ModelProto:
    return graph([node("Identity", ["x"], ["y"])], [info("x", kind, ["n", 2])], [info("y", kind, ["n", 2])], **options)


def sequence_type(inner: Any) -> Any:
    return helper.make_sequence_type_proto(inner)


def map_input() -> onnx.ModelProto:
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    cast = node("CastMap", ["features"], ["y"], domain="ai.onnx.ml", cast_to="TO_FLOAT", map_form="DENSE")
    return graph([cast], [helper.make_value_info("features", kind)], [floats("y", None)])


def sequence() -> onnx.ModelProto:
    return graph(
        [node("SplitToSequence", ["x"], ["parts"], axis=0)],
        [floats("x", ["n", 2])],
        [helper.make_value_info("parts", sequence_type(helper.make_tensor_type_proto(1, None)))],
    )


def optional() -> onnx.ModelProto:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(1, ["n", 2]))
    return graph([node("Optional", ["x"], ["y"])], [floats("x", ["n", 2])], [helper.make_value_info("y", kind)])


def sequence_input() -> onnx.ModelProto:
    kind = sequence_type(helper.make_tensor_type_proto(1, None))
    return graph(
        [node("ConcatFromSequence", ["parts"], ["y"], axis=0)],
        [helper.make_value_info("parts", kind)],
        [floats("y", None)],
    )


def no_inputs() -> onnx.ModelProto:
    return graph([node("Identity", ["w"], ["y"])], [], [floats("y", [2])], {"w": np.zeros(2, np.float32)})


def custom() -> onnx.ModelProto:
    return graph(
        [node("Tokenize", ["x"], ["y"], domain="my.ops")],
        [floats("x", ["n", 2])],
        [floats("y", None)],
        domains=["my.ops"],
    )


def unknown() -> onnx.ModelProto:
    return graph([node("NoSuchOperator", ["x"], ["y"])], [floats("x", ["n", 2])], [floats("y", None)])


def wrong_types() -> onnx.ModelProto:
    return graph(
        [node("Add", ["x", "z"], ["y"])],
        [floats("x", ["n", 2]), info("z", TensorProto.INT64, ["n", 2])],
        [floats("y", None)],
    )


def never_fits() -> onnx.ModelProto:
    return graph(
        [node("Reshape", ["x", "shape"], ["y"])],
        [floats("x", ["n", 2])],
        [floats("y", None)],
        {"shape": np.array([-1, 1021])},
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (map_input, r"the input features is map\(.* a tensor for each column"),
        (sequence, r"the output parts is seq\(tensor\(float\)\).* export with zipmap=False"),
        (optional, r"the output y is optional\(.*export it as a tensor"),
        (sequence_input, r"the input parts is seq\(tensor\(float\)\).* a tensor for each column"),
        (lambda: identity(TensorProto.BFLOAT16), r"the input x is tensor\(bfloat16\).*float32"),
        (lambda: identity(TensorProto.COMPLEX64), r"complex64"),
        (lambda: identity(TensorProto.FLOAT8E4M3FN, opset=19, ir_version=9), r"float8e4m3fn.*float32"),
        (no_inputs, "has no inputs"),
        (custom, "uses Tokenize of my.ops, an operator that ONNX Runtime does not have"),
        (unknown, "uses the operator NoSuchOperator, which the installed onnxruntime .* does not have"),
        (lambda: identity(ir_version=99), "has IR version 99, and the installed onnxruntime .* reads up to"),
        (
            lambda: identity(opset=99),
            r"has opset 99 of ai.onnx, and the installed onnxruntime .* reads up to \d+: export",
        ),
        (wrong_types, "cannot be loaded by the installed onnxruntime"),
        (never_fits, "no inputs could be made up that it computes; give some with --sample"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, bentoml_home: Path, make: Make, message: str
) -> None:
    path = graphs.save(make(), tmp_path)
    with pytest.raises(ModelError, match=message) as raised:
        add_model(path, AddOptions(name="tried"))
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 700
    assert list((bentoml_home / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", b"", "no ONNX file, or one that is cut off"),
        ("model.onnx", os.urandom(4096), "no ONNX file, or one that is cut off"),
        ("model.pkl", b"\x80\x04\x95", "no ONNX file but a pickle.*docs/own_model.md"),
        ("model.pt", b"PK\x03\x04", "no ONNX file but a file of PyTorch"),
        ("model.keras", b"PK\x03\x04", "no ONNX file but a file of Keras"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_graph(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.onnx cannot be read: No such file"):
        load_graph(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a directory, not an ONNX file"):
        load_graph(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match=r"more than 2 GB.*save_as_external_data=True"):
        load_graph(tmp_path / "model.onnx")


CONTENT = graphs.graph(
    [node("MatMul", ["x", "w"], ["y"])],
    [floats("x", ["n", 3])],
    [floats("y", ["n", 2])],
    {"w": np.ones((3, 2), np.float32)},
).SerializeToString()


@pytest.mark.parametrize("size", range(0, len(CONTENT), 7))
@pytest.mark.usefixtures("bentoml_home")
def test_a_file_that_is_cut_off(tmp_path: Path, size: int) -> None:
    (tmp_path / "model.onnx").write_bytes(CONTENT[:size])
    with pytest.raises(ModelError):
        add_model(tmp_path / "model.onnx", AddOptions(name="tried"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_other_bytes_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "model.onnx").write_bytes(bytes(changed))
    with contextlib.suppress(ModelError):
        load_graph(tmp_path / "model.onnx")


def test_onnx_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_onnx(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "onnx":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(ModelError, match=r"install the extra `add` \(pip install 'model-serving\[add\]'\)"):
        load_graph(tmp_path / "model.onnx")


def test_serving_does_not_import_onnx() -> None:
    code = "import serving.add.add, serving.add.check, serving.cli, sys; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
