"""Saving is all or nothing, however the process ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.store.models import ModelMetadata, TensorSpec, Verification, Weights, open_model
from train import store
from train.errors import TrainingError

pytestmark = pytest.mark.usefixtures("bentoml_home")

METADATA = ModelMetadata(
    format="onnx",
    labels=["a", "b"],
    inputs=[TensorSpec(name="x", dtype="float32", shape=[None, 4])],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[None, 2])],
    weights=Weights(origin="trained", trained=True, description="none", sha256="0" * 64),
    verification=Verification(inputs=1, max_abs_difference=0.0, tolerance=1.0),
    versions={},
    onnx_ir_version=8,
    onnx_opset=18,
)
LABELS = {"framework": "onnx"}
Listing = Callable[[], list[str]]

# Saves a model with one file; `{end}` happens while the file is half-written.
INTERRUPTED = """
import os, signal
from tests.train.test_store import LABELS, METADATA
from train.store import staging
with staging() as place:
    with place.model("first", METADATA, labels=LABELS) as path:
        (path / "model.onnx").write_bytes(b"first")
    with place.model("second", METADATA, labels=LABELS) as path:
        with (path / "model.onnx").open("wb") as file:
            file.write(b"half")
            file.flush()
            {end}
"""
WHOLE = INTERRUPTED.format(end="pass")


def save(name: str, content: bytes = b"graph") -> str:
    with store.staging() as place, place.model(name, METADATA, labels=LABELS) as path:
        (path / "model.onnx").write_bytes(content)
    return place.tags[0]


def test_a_saved_model_is_read_back(bentoml_home: Path) -> None:
    tag = save("small")

    model = open_model("small:latest")

    assert model.tag == tag
    assert model.metadata == METADATA
    assert model.onnx_path.read_bytes() == b"graph"
    assert [path.name for path in (bentoml_home / "tmp").iterdir()] == ["train-staging.lock"]


def test_the_newest_is_the_latest_and_the_older_stays() -> None:
    older, newer = save("small", b"1"), save("small", b"2")

    assert older != newer
    assert open_model("small:latest").tag == newer
    assert open_model(older).onnx_path.read_bytes() == b"1"


def test_nothing_is_in_the_store_before_the_end(stored: Listing) -> None:
    with store.staging() as place:
        with place.model("small", METADATA, labels=LABELS) as path:
            (path / "model.onnx").write_bytes(b"graph")
        assert stored() == []
        assert place.tags == []
    assert place.tags


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(bentoml_home: Path, stored: Listing, error: type[BaseException]) -> None:
    with pytest.raises(error), store.staging() as place:  # noqa: PT012 - the first of the two is complete
        with place.model("first", METADATA, labels=LABELS):
            pass
        with place.model("second", METADATA, labels=LABELS) as path:
            (path / "model.onnx").write_bytes(b"half")
            raise error

    assert stored() == []
    assert [path.name for path in (bentoml_home / "tmp").iterdir()] == ["train-staging.lock"]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_a_killed_run_leaves_nothing_and_the_next_one_works(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, end: str, code: int
) -> None:
    models, temporary = tmp_path / "bentoml" / "models", tmp_path / "bentoml" / "tmp"

    killed = run_python("-c", INTERRUPTED.format(end=end), TMPDIR=str(tmp_path))

    assert killed.returncode == code, killed.stderr
    assert list(models.iterdir()) == []
    swept = code == -signal.SIGINT  # Python turns it into an exception; the others leave work for the next run
    assert any(temporary.glob("train-staging-*")) is not swept
    assert [path.name for path in tmp_path.iterdir()] == ["bentoml"]  # no 95 MB in /tmp either

    second = run_python("-c", WHOLE)

    assert second.returncode == 0, second.stderr
    assert sorted(path.name for path in models.iterdir()) == ["first", "second"]
    assert [path.name for path in temporary.iterdir()] == ["train-staging.lock"]


def test_a_run_does_not_sweep_another_run_that_is_alive() -> None:
    with store.staging() as one, one.model("one", METADATA, labels=LABELS) as path:
        save("two")
        (path / "model.onnx").write_bytes(b"still here")

    assert open_model("one").onnx_path.read_bytes() == b"still here"


def test_has_model() -> None:
    tag = save("small")

    assert store.has_model("small")
    assert store.has_model("small:latest")
    assert store.has_model(tag)
    assert not store.has_model("small:other")
    assert not store.has_model("other:latest")


def test_a_directory_that_is_no_model_does_not_count(bentoml_home: Path) -> None:
    (bentoml_home / "models" / "broken" / "version").mkdir(parents=True)
    (bentoml_home / "models" / "broken" / "latest").write_text("version")

    assert not store.has_model("broken:latest")


def test_tags_are_checked_before_the_work() -> None:
    with store.staging() as place, place.model("small:v1", METADATA, labels=LABELS):
        pass

    store.check_tag("small")
    store.check_tag("small:v2")
    for tag, complaint in (("small:v1", "already"), ("small:latest", "leave out"), ("a b", "not a valid")):
        with pytest.raises(TrainingError, match=complaint):
            store.check_tag(tag)


def test_library_versions_name_python_and_what_is_asked_for() -> None:
    versions = store.library_versions("onnx")

    assert set(versions) == {"python", "bentoml", "numpy", "onnx"}
    with pytest.raises(ModuleNotFoundError):
        store.library_versions("no-such-library")
