"""The worked example of docs/own_model.md, a model of one's own, in a copy of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.docs import readme
from tests.docs.normalised import normalised, same
from tests.docs.running import link_environment, run
from tests.e2e.test_observability import eventually
from tests.server import serving

BLOCKS = readme.blocks(readme.OWN_MODEL)
ALONE = {"SERVING__MODELS__IRIS__ENABLED": "false", "SERVING__MODELS__INCEPTION_V3__ENABLED": "false"}


def copy_repository(directory: Path) -> Path:
    for name in ("service.py", "configuration.yaml"):
        shutil.copy(readme.ROOT / name, directory)
    for name in ("serving", "train"):
        shutil.copytree(readme.ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    link_environment(directory)
    return directory


def write_files(directory: Path) -> None:
    """Do what the text says: new files, additions at the end, and the changes."""
    for block in BLOCKS:
        if block.kind == "python":
            assert block.file, block.name
            file = directory / block.file
            if "At the end of" in block.before:
                file.write_text(f"{file.read_text()}\n\n{block.text}\n")
            else:
                assert not file.exists()
                file.write_text(f"{block.text}\n")
        elif block.kind == "diff":
            for change in block.text.split("--- ")[1:]:
                name, *lines = change.splitlines()
                apply(directory / name, lines)


def apply(file: Path, lines: list[str]) -> None:
    before, after = ("".join(line[1:] + "\n" for line in lines if line[0] != sign) for sign in "+-")
    text = file.read_text()
    assert text.count(before) == 1, f"{file.name} has not once:\n{before}"
    file.write_text(text.replace(before, after))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step as the page has it; then errors, metrics and log lines are there without further work."""
    directory = copy_repository(tmp_path)
    write_files(directory)
    store = tmp_path / "bentoml"
    store.mkdir()
    monkeypatch.setenv("BENTOML_HOME", str(store))
    train, ask = (block for block in BLOCKS if block.kind == "bash")
    run(train, directory, host="")
    with serving(root=directory, **ALONE) as server:
        run(ask, directory, host=f"127.0.0.1:{server.port}")
        wrong = httpx.post(f"{server.url}/wine/predict", json={"data": [[1.0]]}, timeout=60)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_input")
        assert 'serving_model_info{model="wine"' in httpx.get(f"{server.url}/metrics", timeout=60).text
        assert "/wine/predict" in httpx.get(f"{server.url}/docs.json", timeout=60).json()["paths"]
        assert eventually(lambda: "/wine/predict status=200" in server.log())
        line = next(line for line in server.log().splitlines() if "/wine/predict status=200" in line)
    (shown,) = (block.text for block in readme.blocks() if block.section == "Observability" and block.kind == "text")
    expected = shown.replace("/iris/predict/label", "/wine/predict").replace("iris:", "wine:")
    assert same(line, expected.replace("readme-1", "0" * 32)), normalised(line)


def test_the_files_of_the_example_are_clean(tmp_path: Path) -> None:
    """A reader's linter has nothing to say, and a formatter leaves them as they are."""
    directory = copy_repository(tmp_path)
    write_files(directory)
    shutil.copy(readme.ROOT / "pyproject.toml", directory)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "service.py", "serving", "train"]
        done = subprocess.run(ruff, cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
