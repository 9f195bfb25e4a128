"""The OpenVINO engine against ONNX Runtime, on seeded random weights. `make test-openvino` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.core import openvino_engine as module
from serving.core.engine import available_cores
from serving.core.errors import InvalidInputError, ModelError
from serving.core.openvino_engine import OpenVinoEngine
from serving.core.signature import TensorSpec
from serving.placement import choose_engine, open_engine
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from tests.core.probabilities import Probabilities
from tests.example_models import flats, node, spec, stored
from tests.tiny_models import tiny_graph, tiny_model
from train.images import seeded_images

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not module.openvino_is_installed(), reason="the extra `openvino` is not installed; see `make test-openvino`"
)
IMAGES = 24


@pytest.fixture(scope="module")
def reference(model_store: Path) -> Probabilities:  # noqa: ARG001
    return Probabilities("inception_v3")


@pytest.fixture(scope="module")
def float32(model_store: Path) -> Probabilities:  # noqa: ARG001
    return Probabilities("inception_v3", engine="openvino", openvino_precision="float32")


@pytest.fixture(scope="module")
def bfloat16(model_store: Path) -> Probabilities:  # noqa: ARG001
    if not module.cpu_has_bfloat16():
        pytest.skip("this CPU has no bfloat16")
    return Probabilities("inception_v3", engine="openvino", openvino_precision="bfloat16")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return seeded_images(IMAGES, seed=0)


@pytest.fixture(scope="module")
def expected(reference: Probabilities, images: np.ndarray) -> np.ndarray:
    return reference.predict(images)


def open_openvino(stored: StoredModel, **options: Any) -> OpenVinoEngine:
    return OpenVinoEngine(stored.onnx_path, stored.metadata.signature, origin=stored.origin, **options)


def test_strings_are_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"OpenVINO takes no strings \(city\): set the engine to onnxruntime"):
        open_openvino(flats(tmp_path))


def test_shapes_that_the_graph_refuses_are_the_callers_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of an even length are summed by halves."""
    nodes = [node("Reshape", ["x", "shape"], ["two"]), node("ReduceSum", ["two", "axis"], ["y"], keepdims=0)]
    constants = {"shape": np.array([0, 2, -1]), "axis": np.array([1])}
    inputs, outputs = [spec("x", "float32", None, None)], [spec("y", "float32", None, None)]
    engine = open_openvino(stored(tmp_path, "halves", nodes, inputs, outputs, constants, kind="tensors", task="raw"))
    assert engine.run({"x": np.float32([[1, 2, 3, 4]])})["y"].tolist() == [[4, 6]]
    with caplog.at_level("INFO", "serving.engine"), pytest.raises(InvalidInputError) as caught:
        engine.run({"x": np.float32([[1, 2, 3]])})
    assert caught.value.message == "the model cannot compute these values or shapes: x [1, 3]"
    assert "the graph refused its input" in caplog.text
    assert engine.run({"x": np.float32([[1, 2, 3, 4]])})["y"].tolist() == [[4, 6]], "the next one is answered"


def largest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest difference of a probability, for each image."""
    return np.abs(a - b).max(axis=1)


def test_float32_agrees_with_onnxruntime(float32: Probabilities, images: np.ndarray, expected: np.ndarray) -> None:
    answer = float32.predict(images)
    assert (answer.dtype, answer.shape) == (np.float32, (IMAGES, 1000))
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    # As far as an exported graph may be from Keras: random weights amplify the last bits more than trained ones.
    assert largest(answer, expected).max() < 5e-4
    ranked = np.sort(expected, axis=1)
    decided = ranked[:, -1] - ranked[:, -2] > 1e-3
    assert (answer.argmax(axis=1) == expected.argmax(axis=1))[decided].all()


def test_bfloat16_changes_less_than_one_grey_level_does(
    bfloat16: Probabilities, reference: Probabilities, images: np.ndarray, expected: np.ndarray
) -> None:
    """Random weights amplify any disturbance, so how much is too much is measured on the same weights."""
    answer = bfloat16.predict(images)
    assert (answer.dtype, answer.shape) == (np.float32, (IMAGES, 1000))
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    noise = np.random.default_rng(0).integers(-1, 2, images.shape)
    noisy = reference.predict(np.clip(images + noise, 0, 255).astype(np.uint8))
    rounded, disturbed = largest(answer, expected), largest(noisy, expected)
    assert np.median(rounded) < np.median(disturbed)
    assert np.median(rounded) > 1e-4, "it was float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_row_does_not_depend_on_its_batch(request: pytest.FixtureRequest, images: np.ndarray, precision: str) -> None:
    """Bitwise on the machines that this ran on; in bfloat16 another choice of kernels would be far beyond 1e-5."""
    engine: Probabilities = request.getfixturevalue(precision)
    alone = np.concatenate([engine.predict(image[np.newaxis]) for image in images[:8]])
    for first, size in [(0, 2), (3, 2), (0, 3), (2, 5), (1, 7), (0, 8)]:
        batch = engine.predict(images[first : first + size])
        np.testing.assert_allclose(batch, alone[first : first + size], rtol=0, atol=1e-5)


def test_threads_may_share_an_engine(float32: Probabilities, images: np.ndarray) -> None:
    alone = [float32.predict(image[np.newaxis]) for image in images[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: float32.predict(image[np.newaxis]), images[:4]))
    np.testing.assert_array_equal(together, alone)


def test_an_answer_is_not_overwritten_by_the_next(float32: Probabilities, images: np.ndarray) -> None:
    first = float32.predict(images[:1])
    kept = first.copy()
    float32.predict(images[1:2])
    np.testing.assert_array_equal(first, kept)


def test_arrays_as_they_come(float32: Probabilities, images: np.ndarray) -> None:
    expected = float32.predict(images[:2])
    read_only = np.frombuffer(images[:2].tobytes(), np.uint8).reshape(2, 299, 299, 3)
    for same in (read_only, np.asfortranarray(images[:2]), images[:4][::-1][2:][::-1]):
        np.testing.assert_array_equal(float32.predict(same), expected)
    assert float32.predict(images[:0]).shape == (0, 1000)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 299, 299, 3), np.float32), np.zeros((1, 100, 100, 3), np.uint8), np.zeros((299, 299, 3), np.uint8)],
    ids=["float32", "smaller", "no batch"],
)
def test_what_openvino_would_convert_in_silence_is_refused(float32: Probabilities, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"uint8 is required, not|is not \[N, 299, 299, 3\]"):
        float32.predict(wrong)


def test_it_says_what_it_is(float32: Probabilities) -> None:
    name, version, precision = float32.engine.description.split()
    assert (name, precision) == ("openvino", "(float32)")
    assert version.replace(".", "").isdigit()


def test_bfloat16_says_so(bfloat16: Probabilities) -> None:
    assert bfloat16.engine.description.endswith("(bfloat16)")


def test_it_is_refused_where_the_cpu_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch, reference: Probabilities) -> None:
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(ModelError, match=r"no bfloat16; set openvino_precision to float32 or auto"):
        open_openvino(reference.stored, precision="bfloat16")


def test_auto_on_this_machine(reference: Probabilities) -> None:
    has = module.cpu_has_bfloat16()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "flags" in (text := cpuinfo.read_text()):
        assert has == any(flag in text.split() for flag in ("avx512_bf16", "amx_bf16", "avx_ne_convert"))
    assert choose_engine("auto", providers=["CPUExecutionProvider"]) == ("openvino" if has else "onnxruntime")
    engine = open_engine(reference.stored, ModelSettings(engine="auto"))
    engine.warm_up()
    assert isinstance(engine, OpenVinoEngine) == has


@pytest.mark.parametrize("content", [b"", b"not a graph", tiny_graph().SerializeToString()[:-40]])
def test_a_broken_file_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match=r"model tiny:1 \(ONNX IR 8, opset 17, .* by the installed openvino 20"):
        open_openvino(tiny_model(tmp_path, content))


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    model.onnx_path.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_openvino(model)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("input", {"name": "other", "dtype": "float32", "shape": [None, 4]}),
        ("input", {"name": "features", "dtype": "uint8", "shape": [None, 4]}),
        ("input", {"name": "features", "dtype": "float32", "shape": [None, 4, 4]}),
        ("output", {"name": "other", "dtype": "float32", "shape": [None, 3]}),
        ("output", {"name": "probabilities", "dtype": "float64", "shape": [None, 3]}),
    ],
    ids=["input name", "input dtype", "input rank", "output name", "output dtype"],
)
def test_a_graph_that_is_not_what_its_metadata_says(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    scores = {"scores": spec["name"]} if kind == "output" else {}
    model = tiny_model(tmp_path, **{f"{kind}s": [TensorSpec(**spec)], **scores})
    with pytest.raises(ModelError, match=f"tiny:1 .*: the graph's {kind}s are .* its metadata says"):
        open_openvino(model)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (0, available_cores())])
def test_threads(tmp_path: Path, threads: int, expected: int) -> None:
    engine = open_openvino(tiny_model(tmp_path), threads=threads)
    assert engine._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == expected


GUARDED = "from serving.core.openvino_engine import cpu_has_bfloat16; cpu_has_bfloat16()"


@pytest.mark.parametrize(("code", "reports"), [(GUARDED, False), ("import openvino", True)], ids=["ours", "plain"])
def test_importing_openvino_reports_to_nobody(tmp_path: Path, code: str, reports: bool) -> None:
    """In place of the vendor's telemetry stands one that says that it was imported."""
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('telemetry')")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr == "telemetry\n") == reports, done.stderr
    assert (done.returncode == 0) != reports
