"""Opening stored models, and the libraries that made them."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bentoml
import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore
from pydantic import ValidationError

from serving.core.errors import ModelError
from serving.store.models import ONNX_FILE, ModelMetadata, check_versions, installed_version, open_model
from tests.tiny_models import metadata, tiny_graph, tiny_model

Save = Callable[[dict[str, Any]], str]


@pytest.fixture
def save(tmp_path: Path) -> Iterator[Save]:
    """Saves a model with this metadata into a store of the test's own and returns its tag."""
    store = ModelStore(tmp_path)
    BentoMLContainer.model_store.set(store)
    open_model.cache_clear()

    def save(values: dict[str, Any]) -> str:
        with bentoml.models.create("tiny", metadata=values, _model_store=store) as model:
            (Path(model.path) / ONNX_FILE).write_bytes(tiny_graph().SerializeToString())
        return str(model.tag)

    yield save
    BentoMLContainer.model_store.reset()
    open_model.cache_clear()


def test_metadata_survives_the_store(save: Save) -> None:
    written = metadata(feature_names=["w", "x", "y", "z"], metrics={"accuracy": 0.5}, seed=3)
    tag = save(written.to_store())
    model = open_model(tag)
    assert model.metadata == written
    assert model.metadata.inputs[0].shape == [None, 4]
    assert model.tag == tag
    assert model.onnx_path.read_bytes() == tiny_graph().SerializeToString()
    assert model.created_at.startswith("20")


def test_latest_is_resolved_to_a_version(save: Save) -> None:
    save(metadata().to_store())
    newest = save(metadata().to_store())
    assert open_model("tiny:latest").tag == newest


@pytest.mark.usefixtures("save")
@pytest.mark.parametrize("tag", ["iris", "iris:latest", "iris:20200101"])
def test_a_missing_model_says_how_to_make_it(tag: str) -> None:
    with pytest.raises(ModelError, match=r"model iris.* is not in the model store.*`python -m train`"):
        open_model(tag)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"framework": "sklearn"},
        metadata().to_store() | {"surprise": 1},
        metadata().to_store() | {"labels": []},
        metadata().to_store() | {"scores": "other"},
        metadata().to_store() | {"kind": "image"},
        metadata().to_store() | {"weights": {**metadata().weights.model_dump(), "sha256": "abc"}},
        metadata().to_store() | {"weights": {**metadata().weights.model_dump(), "origin": "somewhere"}},
        {key: value for key, value in metadata().to_store().items() if key != "onnx_opset"},
    ],
    ids=[
        "none",
        "another project's",
        "unknown key",
        "no labels",
        "no scores",
        "no preprocessing",
        "no digest",
        "unknown origin",
        "no opset",
    ],
)
def test_metadata_that_cannot_be_served_is_refused(save: Save, values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"tiny:\w+ has metadata that cannot be served"):
        open_model(save(values))


def test_only_onnx_needs_the_versions_of_the_format() -> None:
    changes = {"format": "tensorflow_savedmodel", "onnx_ir_version": None, "onnx_opset": None}
    assert metadata(**changes).onnx_opset is None
    with pytest.raises(ValidationError, match="onnx_ir_version"):
        metadata(onnx_ir_version=None)


def test_metadata_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        metadata().labels = []  # type: ignore[misc]


def test_a_model_is_opened_once(save: Save) -> None:
    tag = save(metadata().to_store())
    assert open_model(tag) is open_model(tag)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What seems to be installed."""
    versions = {"onnxruntime": "1.20.0", "numpy": "2.1.0"}
    monkeypatch.setattr("serving.store.models.installed_version", versions.get)
    return versions


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "made_with",
    [
        {"onnxruntime": "1.20.0"},
        {"onnxruntime": "1.20.9", "numpy": "2.1.5.post1"},
        {"scikit-learn": "0.1", "tensorflow-cpu": "99"},
        {},
    ],
    ids=["the same", "another patch", "training only", "nothing known"],
)
def test_versions_that_fit_are_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, made_with: dict[str, str]
) -> None:
    check_versions(tiny_model(tmp_path, versions=made_with), strict=True)
    assert caplog.records == []


DIFFERENT = {"onnxruntime": "1.19.0", "numpy": "1.26.4", "scikit-learn": "1.0"}
EXPECTED = "model tiny:1: numpy 1.26.4 made it, 2.1.0 is installed; onnxruntime 1.19.0 made it, 1.20.0 is installed"


@pytest.mark.usefixtures("installed")
def test_another_minor_version_is_a_warning_with_both_versions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_versions(tiny_model(tmp_path, versions=DIFFERENT), strict=False)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, EXPECTED)]


@pytest.mark.usefixtures("installed")
def test_strict_makes_it_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError) as caught:
        check_versions(tiny_model(tmp_path, versions=DIFFERENT), strict=True)
    assert str(caught.value) == f"{EXPECTED} (server.strict_versions is on)"
    assert caplog.records == []


def test_installed_versions() -> None:
    assert installed_version("bentoml") == bentoml.__version__
    assert installed_version("no-such-library") is None


@pytest.mark.usefixtures("model_store")
@pytest.mark.parametrize(("name", "classes"), [("iris", 3), ("inception_v3", 1000), ("inception_v3_savedmodel", 1000)])
def test_the_trained_models_can_be_served_here(name: str, classes: int) -> None:
    model = open_model(f"{name}:latest")
    assert isinstance(model.metadata, ModelMetadata)
    assert len(model.metadata.labels) == len(set(model.metadata.labels)) == classes
    # Where another Python has filled the store, the lock has other versions of some libraries.
    check_versions(model, strict=model.metadata.versions["python"].startswith(platform.python_version()[:5]))


@pytest.mark.usefixtures("model_store")
def test_random_weights_never_pass_for_trained_ones() -> None:
    assert open_model("iris:latest").metadata.weights.trained
    weights = open_model("inception_v3:latest").metadata.weights
    assert (weights.origin, weights.trained) == ("random", False)
