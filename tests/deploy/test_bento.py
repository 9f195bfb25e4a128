"""What is in a Bento: exact models, locked libraries, our code, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bentoml
import httpx
import pytest
import yaml
from bentoml.exceptions import BentoMLException

import serving.bento.service
from deploy import bento
from serving.bento.service import LocalModel
from serving.inventory import describe_model
from serving.settings import get_settings
from serving.settings.recorded import FILE
from serving.store.lockfile import LOCK, locked_versions
from serving.store.models import open_model
from tests.server import serving as run_server

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.0.1-test"
TRAINING = {
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "scikit-learn",
    "skl2onnx",
    "onnx",
    "tf2onnx",
    "pytest",
    "pip",
    "uv",
}


@pytest.fixture(scope="module")
def built(model_store: Path) -> Iterator[Path]:
    """The directory of a Bento that `make bento` would build."""
    tag = bento.build(version=VERSION)
    yield model_store / "bentos/model_serving" / VERSION
    bentoml.bentos.delete(tag)


def test_nothing_else_is_in_it(built: Path) -> None:
    files = {str(file.relative_to(built)) for file in built.rglob("*") if file.is_file()}
    ours = {file for file in files if file.startswith("src/serving/")}
    assert {file.removeprefix("src/") for file in ours} == {
        str(file.relative_to(ROOT))
        for file in (ROOT / "serving").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {file for file in files - ours if file.startswith("src/")} == {
        f"src/{name}"
        for name in (
            "service.py",
            "configuration.yaml",
            "bentofile.yaml",
            FILE,
            "requirements/serve.lock",
            "requirements/s3.lock",
            "requirements/uv.lock",
        )
    }
    assert {file.split("/")[0] for file in files} == {"README.md", "apis", "bento.yaml", "env", "src"}


def test_models_have_their_exact_tags(built: Path) -> None:
    exact = {name: open_model(f"{name}:latest").tag for name in ("iris", "inception_v3")}
    recorded = yaml.safe_load((built / "bento.yaml").read_text())
    packed = {model["tag"] for service in recorded["services"] for model in service["models"]}
    assert packed == set(exact.values())
    assert recorded["labels"]["model.iris"] == exact["iris"].replace(":", ".")
    assert recorded["labels"]["version"] == recorded["version"] == VERSION
    assert re.fullmatch("[0-9a-f]{40}", recorded["labels"]["revision"])


SETTINGS = """
import json
from serving.settings import Settings
print(json.dumps({name: entry.tag for name, entry in Settings().models.items()}))
"""


def tags_in(built: Path, **variables: str) -> dict[str, str]:
    """The tags that the code of a Bento reads in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(built / "src")} | variables
    printed = subprocess.run(
        [sys.executable, "-c", SETTINGS], cwd=built / "src", env=environment, capture_output=True, text=True, check=True
    )
    tags: dict[str, str] = json.loads(printed.stdout)
    return tags


def test_its_settings_name_the_models_that_it_was_built_with(built: Path, tmp_path: Path) -> None:
    exact = {name: open_model(f"{name}:latest").tag for name in ("iris", "inception_v3")}
    assert tags_in(built) == exact
    # The environment wins.
    assert tags_in(built, SERVING__MODELS__IRIS__TAG="iris:latest") == exact | {"iris": "iris:latest"}
    # So does a version in another file, as Kubernetes mounts one; an entry without a version is pinned there too.
    other = tmp_path / "configuration.yaml"
    other.write_text("models: {iris: {tag: iris:another}, inception_v3: {tag: inception_v3:latest}, wine: {}}")
    assert tags_in(built, SERVING_CONFIGURATION=str(other)) == {
        "iris": "iris:another",
        "inception_v3": exact["inception_v3"],
        "wine": "wine:latest",
    }


def test_libraries_are_those_of_the_lock_with_their_hashes(built: Path) -> None:
    assert (built / "src/requirements/serve.lock").read_bytes() == LOCK.read_bytes()
    # BentoML adds itself once more, without hashes; the image is made from the lock in src/.
    recorded = (built / "env/python/requirements.txt").read_text()
    recorded = recorded.removesuffix(f"bentoml=={locked_versions()['bentoml']}\n")
    assert {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", recorded, re.MULTILINE)} >= set(
        locked_versions()
    )
    for requirement in re.split(r"\n(?=\S)", recorded):
        assert requirement.startswith("#") or not requirement.strip() or "--hash=sha256:" in requirement, requirement
    assert not re.search("index-url|find-links|https?:", recorded)


def test_what_trains_and_what_tests_is_not_locked() -> None:
    assert TRAINING & locked_versions().keys() == set()


def test_the_inventory_says_what_the_bento_is(built: Path) -> None:
    recorded = json.loads((built / "src" / FILE).read_text())
    assert recorded["service"]["version"] == VERSION
    assert recorded["libraries"] == locked_versions()
    assert recorded["models"]["iris"] == json.loads(describe_model(open_model("iris:latest")).model_dump_json())
    assert (recorded["system"], recorded["cpu"]) == (None, None)


def test_the_documents_in_it_are_those_that_it_serves(built: Path) -> None:
    with run_server(target=f"model_serving:{VERSION}") as server:
        answered = httpx.get(f"{server.url}/docs.json").json()
        inventory = httpx.get(f"{server.url}/inventory", timeout=60).json()
    assert answered == yaml.safe_load((built / "apis/openapi.yaml").read_text())
    assert answered["info"]["version"] == inventory["service"]["version"] == VERSION
    assert inventory["models"] == json.loads((built / "src" / FILE).read_text())["models"]


def test_the_image_has_the_labels(built: Path) -> None:
    file = (built / "env/docker/Dockerfile").read_text()
    assert f'org.opencontainers.image.version="{VERSION}"' in file
    assert f'model-serving.iris="{open_model("iris:latest").tag}"' in file
    assert "USER 1034:1034" in file
    assert "HEALTHCHECK" in file


CONTRADICTION = {"numpy": "1.26.4"}


@pytest.mark.usefixtures("model_store")
def test_libraries_that_contradict_a_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `make bento`, and by BentoML when it is called alone."""
    model = open_model("iris:latest")
    said = f"model {model.tag}: numpy {model.metadata.versions['numpy']} made it, 1.26.4 is in requirements/serve.lock"
    monkeypatch.setattr(bento, "locked_versions", lambda: CONTRADICTION)
    assert bento.main(["--version", "never"]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"
    monkeypatch.setattr(serving.bento.service, "locked_versions", lambda: CONTRADICTION)
    with pytest.raises(BentoMLException, match=re.escape(said)):
        LocalModel("iris:latest").to_info()


@pytest.mark.usefixtures("built")
def test_a_version_means_the_same_models_for_ever() -> None:
    with pytest.raises(bento.BuildError, match="is there already"):
        bento.replace(f"model_serving:{VERSION}", {"iris": "iris:another"})


@pytest.mark.usefixtures("model_store")
def test_a_bento_with_other_models_than_the_settings_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable switches a model off here, and not in the configuration of the Bento."""
    monkeypatch.setenv("SERVING__MODELS__INCEPTION_V3__ENABLED", "false")
    get_settings.cache_clear()
    try:
        assert bento.main(["--version", "0.0.2-test"]) == 1
    finally:
        get_settings.cache_clear()
    assert "enable and disable models in configuration.yaml" in capsys.readouterr().err
    with pytest.raises(BentoMLException):
        bentoml.bentos.get("model_serving:0.0.2-test")


def test_plugins_are_packed_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    (root / "plugins").mkdir(parents=True)
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (root / entry.name).symlink_to(entry)
    (root / "plugins/own.py").write_text("class Own: ...\n")
    monkeypatch.setattr(bento, "ROOT", root)
    bento.copy(target)
    assert [str(file.relative_to(target)) for file in (target / "plugins").iterdir()] == ["plugins/own.py"]
    included = yaml.safe_load((target / "bentofile.yaml").read_text())["include"]
    assert "plugins/" in included


def test_a_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bentofile.yaml").write_text("include: [service.py]")
    monkeypatch.setattr(bento, "ROOT", tmp_path)
    with pytest.raises(bento.BuildError, match=r"includes service\.py, which is not there"):
        bento.copy(tmp_path / "target")
