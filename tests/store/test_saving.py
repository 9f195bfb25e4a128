"""Saving is all or nothing, however the process ends."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.core.errors import ModelError
from serving.core.signature import TensorSpec
from serving.store import bentoml_store, saving
from serving.store.models import ModelMetadata, Verification, Weights, open_model

pytestmark = pytest.mark.usefixtures("bentoml_home")

METADATA = ModelMetadata(
    format="onnx",
    kind="rows",
    task="classification",
    scores="y",
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
from tests.store.test_saving import LABELS, METADATA
from serving.store.saving import staging
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
    with saving.staging() as place, place.model(name, METADATA, labels=LABELS) as path:
        (path / "model.onnx").write_bytes(content)
    return place.tags[0]


def test_a_saved_model_is_read_back(bentoml_home: Path) -> None:
    tag = save("small")

    model = open_model("small:latest")

    assert model.tag == tag
    files = {"model.onnx": hashlib.sha256(b"graph").hexdigest()}
    assert model.metadata == METADATA.model_copy(update={"files": files})
    assert model.onnx_path.read_bytes() == b"graph"
    assert [path.name for path in (bentoml_home / "tmp").iterdir()] == ["model-staging.lock"]


def test_the_newest_is_the_latest_and_the_older_stays() -> None:
    older, newer = save("small", b"1"), save("small", b"2")

    assert older != newer
    assert open_model("small:latest").tag == newer
    assert open_model(older).onnx_path.read_bytes() == b"1"


def test_everybody_may_read_what_is_saved() -> None:
    """A container runs as another user than the one who saved, who may let nobody read his files."""
    before = os.umask(0o077)
    try:
        with saving.staging() as place, place.model("small", METADATA, labels=LABELS) as path:
            (path / "weights").mkdir()
            (path / "weights/w.bin").write_bytes(b"1")
            (path / "weights/w.bin").chmod(0o400)
            (path / "model.onnx").write_bytes(b"graph")
    finally:
        os.umask(before)
    saved = open_model("small").path
    directories = {path.stat().st_mode & 0o777 for path in (saved, saved / "weights")}
    assert directories == {0o755}
    assert {path.stat().st_mode & 0o777 for path in saved.rglob("*") if path.is_file()} == {0o644}


def test_nothing_is_in_the_store_before_the_end(stored: Listing) -> None:
    with saving.staging() as place:
        with place.model("small", METADATA, labels=LABELS) as path:
            (path / "model.onnx").write_bytes(b"graph")
        assert stored() == []
        assert place.tags == []
    assert place.tags


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(bentoml_home: Path, stored: Listing, error: type[BaseException]) -> None:
    with pytest.raises(error), saving.staging() as place:  # noqa: PT012 - the first of the two is complete
        with place.model("first", METADATA, labels=LABELS):
            pass
        with place.model("second", METADATA, labels=LABELS) as path:
            (path / "model.onnx").write_bytes(b"half")
            raise error

    assert stored() == []
    assert [path.name for path in (bentoml_home / "tmp").iterdir()] == ["model-staging.lock"]


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
    assert any(temporary.glob("model-staging-*")) is not swept
    assert [path.name for path in tmp_path.iterdir()] == ["bentoml"]  # no 95 MB in /tmp either

    second = run_python("-c", WHOLE)

    assert second.returncode == 0, second.stderr
    assert sorted(path.name for path in models.iterdir()) == ["first", "second"]
    assert [path.name for path in temporary.iterdir()] == ["model-staging.lock"]


def test_a_run_does_not_sweep_another_run_that_is_alive() -> None:
    with saving.staging() as one, one.model("one", METADATA, labels=LABELS) as path:
        save("two")
        (path / "model.onnx").write_bytes(b"still here")

    assert open_model("one").onnx_path.read_bytes() == b"still here"


def test_has_model() -> None:
    tag = save("small")

    assert bentoml_store.has_model("small")
    assert bentoml_store.has_model("small:latest")
    assert bentoml_store.has_model(tag)
    assert not bentoml_store.has_model("small:other")
    assert not bentoml_store.has_model("other:latest")


def test_a_directory_that_is_no_model_does_not_count(bentoml_home: Path) -> None:
    (bentoml_home / "models" / "broken" / "version").mkdir(parents=True)
    (bentoml_home / "models" / "broken" / "latest").write_text("version")

    assert not bentoml_store.has_model("broken:latest")
    with pytest.raises(ModelError, match="model broken:latest cannot be read"):
        open_model("broken:latest")
    (bentoml_home / "models" / "broken" / "version" / "model.yaml").write_text("{")
    assert not bentoml_store.has_model("broken:latest")
    with pytest.raises(ModelError, match="model broken:latest cannot be read"):
        open_model("broken:latest")
    assert list(bentoml_store.entries()) == []


def test_tags_are_checked_before_the_work() -> None:
    with saving.staging() as place, place.model("small:v1", METADATA, labels=LABELS):
        pass

    saving.check_tag("small")
    saving.check_tag("small:v2")
    for tag, complaint in (("small:v1", "already"), ("small:latest", "leave out"), ("a b", "not a valid")):
        with pytest.raises(ModelError, match=complaint):
            saving.check_tag(tag)


def test_library_versions_name_python_and_what_is_asked_for() -> None:
    versions = saving.library_versions("onnx")

    assert set(versions) == {"python", "bentoml", "numpy", "onnx"}
    with pytest.raises(ModuleNotFoundError):
        saving.library_versions("no-such-library")
