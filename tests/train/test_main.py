"""`python -m train`, which `make serve` runs every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]


@pytest.mark.slow
def test_with_every_model_in_the_store_nothing_heavy_is_imported(model_store: Path, run_python: Run) -> None:
    before = sorted(model_store.glob("models/*/*"))

    done = run_python("-X", "importtime", "-m", "train", BENTOML_HOME=str(model_store))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "iris:latest is in the model store",
        "inception_v3:latest is in the model store",
    ]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "bentoml" in imported
    assert not imported & {"tensorflow", "keras", "sklearn", "onnx", "skl2onnx", "tf2onnx"}
    assert sorted(model_store.glob("models/*/*")) == before


def test_only_what_is_enabled_is_made_under_the_configured_name(run_python: Run, tmp_path: Path) -> None:
    settings = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__MODELS__IRIS__TAG": "flowers:latest"}
    done = run_python("-m", "train", "--quiet", **settings)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in (tmp_path / "bentoml" / "models").iterdir()] == ["flowers"]


def test_a_version_that_is_not_there_cannot_be_made(run_python: Run, tmp_path: Path) -> None:
    done = run_python("-m", "train", SERVING__MODELS__IRIS__TAG="iris:v9")

    assert done.returncode == 1
    assert "iris:v9" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "bentoml" / "models").iterdir()) == []


def test_a_broken_configuration_is_one_error(run_python: Run) -> None:
    done = run_python("-m", "train", SERVING__NO_SUCH_SECTION="1")

    assert done.returncode == 1
    assert done.stderr.startswith("error: configuration:")
    assert "Traceback" not in done.stderr


def test_importing_the_package_sets_what_tensorflow_reads_at_its_import(run_python: Run) -> None:
    done = run_python("-c", "import train, os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'], os.environ['KERAS_BACKEND'])")

    assert done.stdout.split() == ["3", "tensorflow"]
