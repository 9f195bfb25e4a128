"""Building the image: what can be told without an engine. tests/image builds and runs the real one."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from deploy import image
from deploy.bento import BuildError
from serving.store.lockfile import locked_versions


def test_the_bill_of_materials_has_every_library_with_its_hashes(tmp_path: Path) -> None:
    file = image.write_sbom("1.2.3", tmp_path)
    assert file.name == "model-serving-1.2.3.cdx.json"
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "model-serving")
    components = {canonicalize_name(component["name"]): component for component in bill["components"]}
    assert {name: component["version"] for name, component in components.items()} == locked_versions()
    for name in locked_versions():
        (reference,) = components[name]["externalReferences"]
        assert {item["alg"] for item in reference["hashes"]} == {"SHA-256"}
    assert image.write_sbom("1.2.3", tmp_path / "again").read_bytes() == file.read_bytes()


def test_without_an_engine_it_says_which_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert image.main([]) == 1
    assert capsys.readouterr().err == "error: no container engine: install one of docker, podman, buildah\n"


def test_an_engine_whose_daemon_is_away_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's program alone cannot build; the next engine is taken."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, status in (("docker", 1), ("podman", 0)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nexit {status}\n")
        program.chmod(0o755)
    assert image.find_engine() == "podman"


@pytest.mark.usefixtures("model_store")
def test_an_image_that_was_not_built_is_an_error() -> None:
    with pytest.raises(BuildError, match="podman has not built model-serving:none"):
        image.containerize("model_serving:none", engine="podman")


def test_modules_that_are_compiled_in_the_image_are_there() -> None:
    """A root that is read-only keeps no bytecode later, so the image imports what its processes will."""
    text = (Path(image.__file__).parent / "Dockerfile.template").read_text()
    listed = re.search(r'-c "import (.*?)"', text, re.DOTALL)
    assert listed
    modules = [name.strip() for name in listed[1].replace("\\\n", " ").split(",")]
    assert "serving.bento.api" in modules, "only API workers import it, `service` does not"
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
