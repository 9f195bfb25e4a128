"""The locked dependencies."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_SERVED = {"tensorflow", "tensorflow-cpu", "keras", "scikit-learn", "onnx", "skl2onnx", "tf2onnx", "pytest"}


def locked(name: str) -> list[Requirement]:
    text = (ROOT / "requirements" / f"{name}.lock").read_text().replace("\\\n", " ")
    lines = (re.sub(r"\s+--hash=\S+", "", line).strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def versions(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement in locked(name):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


def test_what_openvino_adds_changes_nothing_else() -> None:
    serve, openvino = versions("serve"), versions("openvino")
    assert serve.items() <= openvino.items()
    assert openvino.keys() - serve.keys() == {"openvino", "openvino-telemetry"}


def test_what_s3_adds_changes_nothing_else() -> None:
    serve, with_s3 = versions("serve"), versions("s3")
    assert serve.items() <= with_s3.items()
    assert with_s3.keys() - serve.keys() == {"s3fs", "aiobotocore", "aioitertools", "botocore", "jmespath"}


def test_what_both_locks_have_is_the_same_version() -> None:
    serve, dev = versions("serve"), versions("dev")
    assert {name: (serve[name], dev[name]) for name in serve.keys() & dev.keys() if serve[name] != dev[name]} == {}
    assert serve.keys() - dev.keys() == set(), "whoever develops can serve"


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.name)
def test_no_registry_host_is_written_down(file: Path) -> None:
    text = file.read_text()
    assert re.findall(r"(?i)https?:|index-url|find-links|trusted-host|://|@ *git\\b", text) == []


@pytest.mark.parametrize("name", ["serve", "s3", "dev", "openvino", "uv"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-zA-Z0-9._-]+(\[[a-z,]+\])?==[^ ]+ ", line), line
        assert "--hash=sha256:" in line, line


def test_serving_needs_no_training_library() -> None:
    assert versions("serve").keys() & NOT_SERVED == set()
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert declared & NOT_SERVED == set()
    assert NOT_SERVED - {"tensorflow"} <= versions("dev").keys() | {"tensorflow-cpu"}


@pytest.mark.parametrize(("lock", "extras"), [("serve", []), ("dev", ["train", "dev"]), ("openvino", ["openvino"])])
def test_what_is_declared_is_locked(lock: str, extras: list[str]) -> None:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    assert declared - versions(lock).keys() == set()


def test_what_is_installed_here_is_what_is_locked() -> None:
    different = {}
    for requirement in locked("dev"):
        if requirement.marker is None or requirement.marker.evaluate():
            installed = importlib.metadata.version(requirement.name)
            if not requirement.specifier.contains(installed, prereleases=True):
                different[requirement.name] = (str(requirement.specifier), installed)
    assert different == {}, sys.prefix
