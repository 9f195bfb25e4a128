"""Loading ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.core.errors import ModelError
from serving.engines import IrisEngine
from serving.engines.session import available_cores, open_session
from serving.store.models import TensorSpec
from tests.tiny_models import tiny_graph, tiny_model


def test_a_graph_runs(tmp_path: Path) -> None:
    engine = IrisEngine(tiny_model(tmp_path))
    engine.warm_up()
    answer = engine.predict(np.ones((2, 4), np.float32))
    assert (answer.dtype, answer.shape) == (np.float32, (2, 3))


@pytest.mark.parametrize(
    ("newer", "named"),
    [({"ir_version": 99}, "ONNX IR 99, opset 17"), ({"opset": 999}, "ONNX IR 8, opset 999")],
)
def test_a_format_from_the_future_names_both_versions(tmp_path: Path, newer: dict[str, int], named: str) -> None:
    recorded = {f"onnx_{name}": value for name, value in newer.items()}
    model = tiny_model(tmp_path, tiny_graph(**newer), **recorded)
    with pytest.raises(ModelError) as caught:
        IrisEngine(model)
    message = str(caught.value)
    assert "tiny:1" in message
    assert named in message
    assert "verified with onnxruntime 1.2.3" in message
    assert f"installed onnxruntime {onnxruntime.__version__}" in message


@pytest.mark.parametrize("content", [b"", b"not a graph", tiny_graph().SerializeToString()[:-40]])
def test_a_broken_file_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        IrisEngine(tiny_model(tmp_path, content))


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    model.onnx_path.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        IrisEngine(model)


def test_a_missing_provider_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"FancyExecutionProvider is not in .* \(it has .*CPUExecutionProvider.*\)"):
        open_session(
            tiny_model(tmp_path), threads=1, spin=False, providers=["FancyExecutionProvider", "CPUExecutionProvider"]
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
        ("output", {"name": "probabilities", "dtype": "float32", "shape": [None, 4]}),
    ],
    ids=["input name", "input dtype", "rank", "output name", "output dtype", "features", "classes"],
)
def test_a_graph_that_is_not_what_its_metadata_says(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    model = tiny_model(tmp_path, **{f"{kind}s": [TensorSpec(**spec)]})
    with pytest.raises(ModelError, match=f"tiny:1: the graph's {kind}s are .* its metadata says"):
        IrisEngine(model)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (3, 3), (0, available_cores())])
def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, expected: int) -> None:
    seen: list[onnxruntime.SessionOptions] = []
    session = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **more: Any) -> onnxruntime.InferenceSession:
        seen.append(options)
        return session(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    open_session(tiny_model(tmp_path), threads=threads, spin=False)
    (options,) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (expected, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
