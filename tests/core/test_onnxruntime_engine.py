"""Loading ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.core.engine import Engine, available_cores
from serving.core.errors import InvalidInputError, ModelError
from serving.core.onnxruntime_engine import open_session
from serving.core.signature import TensorSpec
from serving.core.tensors import Tensors, strings
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from tests.codecs.models import same
from tests.example_models import (
    flats,
    flats_expected,
    lengths,
    node,
    recurrent,
    regressor,
    single,
    spec,
    stored,
    towers,
)
from tests.tiny_models import tiny_graph, tiny_model


def open_tiny(path: Path, content: Any = None) -> Engine:
    return open_engine(tiny_model(path, content), ModelSettings())


def opened(model: Any) -> Engine:
    return open_engine(model, ModelSettings())


def test_a_graph_runs(tmp_path: Path) -> None:
    engine = open_tiny(tmp_path)
    engine.warm_up()
    answer = engine.run({"features": np.ones((2, 4), np.float32)})
    assert list(answer) == ["probabilities"]
    assert (answer["probabilities"].dtype, answer["probabilities"].shape) == (np.float32, (2, 3))


@pytest.mark.parametrize(
    ("newer", "named"),
    [({"ir_version": 99}, "ONNX IR 99, opset 17"), ({"opset": 999}, "ONNX IR 8, opset 999")],
)
def test_a_format_from_the_future_names_both_versions(tmp_path: Path, newer: dict[str, int], named: str) -> None:
    recorded = {f"onnx_{name}": value for name, value in newer.items()}
    model = tiny_model(tmp_path, tiny_graph(**newer), **recorded)
    with pytest.raises(ModelError) as caught:
        open_engine(model, ModelSettings())
    message = str(caught.value)
    assert "tiny:1" in message
    assert named in message
    assert "verified with onnxruntime 1.2.3" in message
    assert f"installed onnxruntime {onnxruntime.__version__}" in message


@pytest.mark.parametrize("content", [b"", b"not a graph", tiny_graph().SerializeToString()[:-40]])
def test_a_broken_file_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_tiny(tmp_path, content)


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    model.onnx_path.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_engine(model, ModelSettings())


def test_a_missing_provider_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"FancyExecutionProvider is not in .* \(it has .*CPUExecutionProvider.*\)"):
        open_session(
            tiny_model(tmp_path).onnx_path, origin="x", providers=["FancyExecutionProvider", "CPUExecutionProvider"]
        )


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("input", {"name": "other", "dtype": "float32", "shape": [None, 4]}),
        ("input", {"name": "features", "dtype": "uint8", "shape": [None, 4]}),
        ("input", {"name": "features", "dtype": "float32", "shape": [None, 4, 4]}),
        ("output", {"name": "other", "dtype": "float32", "shape": [None, 3]}),
        ("output", {"name": "probabilities", "dtype": "float64", "shape": [None, 3]}),
        ("input", {"name": "features", "dtype": "float32", "shape": [None, 5]}),
    ],
    ids=["input name", "input dtype", "rank", "output name", "output dtype", "features"],
)
def test_a_graph_that_is_not_what_its_metadata_says(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    scores = {"scores": spec["name"]} if kind == "output" else {}
    model = tiny_model(tmp_path, **{f"{kind}s": [TensorSpec(**spec)], **scores})
    with pytest.raises(ModelError, match=f"tiny:1 .*: the graph's {kind}s are .* its metadata says"):
        open_engine(model, ModelSettings())


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (3, 3), (0, available_cores())])
def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, expected: int) -> None:
    seen: list[onnxruntime.SessionOptions] = []
    session = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **more: Any) -> onnxruntime.InferenceSession:
        seen.append(options)
        return session(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    open_session(tiny_model(tmp_path).onnx_path, origin="x", threads=threads)
    (options,) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (expected, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_several_tensors_of_several_types(tmp_path: Path) -> None:
    engine = opened(flats(tmp_path))
    tensors: Tensors = {
        "city": strings(["Bern", "Zürich 😀"], (2, 1)),
        "area": np.float32([[50], [70]]),
        "rooms": np.int64([[2], [3]]),
    }
    expected = [flats_expected("Bern", 50, 2), flats_expected("Zürich 😀", 70, 3)]
    np.testing.assert_allclose(engine.run(tensors)["probabilities"], expected, atol=1e-6)
    # the order of inputs is the caller's
    assert same(engine.run(dict(reversed(tensors.items()))), engine.run(tensors))
    both = opened(towers(tmp_path)).run({"item": np.float32([[5, 6]]), "user": np.float32([[1, 2]])})
    assert {name: array.tolist() for name, array in both.items()} == {"score": [17], "both": [[1, 2, 5, 6]]}


def test_a_graph_of_one_row_is_called_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, many = opened(single(tmp_path)), opened(regressor(tmp_path))
    rows = {"X": np.arange(15, dtype=np.float64).reshape(5, 3)}
    sizes: list[int] = []
    call = engine._call
    monkeypatch.setattr(engine, "_call", lambda tensors: sizes.append(len(tensors["X"])) or call(tensors))
    assert same(engine.run(rows), many.run(rows))
    assert sizes == [1] * 5
    assert engine.run({"X": rows["X"][:1]})["variable"].shape == (1, 1)


def test_tensors_without_rows_are_one_call(tmp_path: Path) -> None:
    engine = opened(recurrent(tmp_path))
    found = engine.run({"audio": np.float32([0.5, 1.5]), "state": np.zeros((2, 1, 3), np.float32)})
    assert (found["level"].shape, found["level"].item()) == ((), 1)
    assert found["next"].tolist() == np.ones((2, 1, 3)).tolist()
    engine.warm_up()


def halves(path: Path) -> Engine:
    """A graph that takes rows of an even length."""
    nodes = [node("Reshape", ["x", "shape"], ["two"]), node("ReduceSum", ["two", "axis"], ["y"], keepdims=0)]
    constants = {"shape": np.array([0, 2, -1]), "axis": np.array([1])}
    inputs, outputs = [spec("x", "float32", None, None)], [spec("y", "float32", None, None)]
    return opened(stored(path, "halves", nodes, inputs, outputs, constants, kind="tensors", task="raw"))


def test_shapes_that_the_graph_refuses_are_the_callers_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = halves(tmp_path)
    assert engine.run({"x": np.float32([[1, 2, 3, 4]])})["y"].tolist() == [[4, 6]]
    with caplog.at_level("INFO", "serving.engine"), pytest.raises(InvalidInputError) as caught:
        engine.run({"x": np.float32([[1, 2, 3]])})
    assert caught.value.message == "the model cannot compute these values or shapes: x [1, 3]"
    assert "Reshape" in caplog.text, "what ONNX Runtime says is for the operator"


def test_values_that_point_outside_a_table_are_the_callers_own(tmp_path: Path) -> None:
    engine = opened(
        stored(
            tmp_path,
            "table",
            [node("Gather", ["table", "index"], ["y"])],
            [spec("index", "int64", None)],
            [spec("y", "float32", None)],
            {"table": np.float32([1, 2, 3])},
            kind="tensors",
            task="raw",
        )
    )
    assert engine.run({"index": np.int64([2, 0])})["y"].tolist() == [3, 1]
    for wrong in (3, -4, 2**62):
        with pytest.raises(InvalidInputError, match="cannot compute these values or shapes"):
            engine.run({"index": np.int64([wrong])})


def test_a_lack_of_memory_is_not_the_callers_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    class Full:
        def run(self, *_: Any) -> Any:
            raise RuntimeException("Failed to allocate memory for requested buffer of size 1")

    engine = opened(lengths(tmp_path))
    monkeypatch.setattr(engine, "_session", Full())
    with pytest.raises(RuntimeException):
        engine.run({"text": np.zeros((1, 1), np.float32)})


@pytest.mark.parametrize("make", [flats, towers, recurrent, regressor, lengths, single])
def test_engines_warm_up_on_zeros(tmp_path: Path, make: Any) -> None:
    engine = opened(make(tmp_path))
    engine.warm_up()
    engine.warm_up(engine.signature.zeros(3))


def test_shapes_of_outputs_come_from_the_run_and_not_from_the_declaration(tmp_path: Path) -> None:
    """LightGBM declares its label as `[1]`."""
    model = regressor(tmp_path)
    declared = model.metadata.model_copy(update={"outputs": [spec("variable", "float64", None, 7)]})
    engine = opened(type(model)(model.tag, model.path, model.created_at, declared))
    assert engine.run({"X": np.zeros((2, 3))})["variable"].shape == (2, 1)


def test_precision_is_that_of_the_inputs(tmp_path: Path) -> None:
    assert "(float64, CPUExecutionProvider)" in opened(regressor(tmp_path)).description
    assert "(float32, CPUExecutionProvider)" in opened(flats(tmp_path)).description
