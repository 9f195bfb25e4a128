"""docs/own_model.md, done as its reader does it, in a copy of the repository."""

from __future__ import annotations

import re
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
EXPORT, PLUGIN = (block for block in BLOCKS if block.kind == "python")
ADD, ASK = (block for block in BLOCKS if block.kind == "bash" and block.not_run is None)
ENTRY, ENTRY_OF_PLUGIN = re.findall(r"`(wine: {.*?})`", readme.text(readme.OWN_MODEL))
ALONE = {"SERVING__MODELS__IRIS__ENABLED": "false", "SERVING__MODELS__INCEPTION_V3__ENABLED": "false"}
MOST_LINES = 80


def copy_repository(directory: Path) -> Path:
    for name in ("service.py", "configuration.yaml"):
        shutil.copy(readme.ROOT / name, directory)
    shutil.copytree(readme.ROOT / "serving", directory / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    link_environment(directory)
    for block in (EXPORT, PLUGIN):
        assert block.file, block.name
        file = directory / block.file
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{block.text}\n")
    return directory


def write_entry(directory: Path, entry: str) -> None:
    """Put the line of the page below `models`."""
    file = directory / "configuration.yaml"
    changed, number = re.subn(r"(?m)^models:\n", f"models:\n  {entry}\n", file.read_text())
    assert number == 1
    file.write_text(changed)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step as the page has it; errors, metrics, the log and the document are there without further work."""
    directory = copy_repository(tmp_path)
    (tmp_path / "bentoml").mkdir()
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    run(ADD, directory, host="")
    write_entry(directory, ENTRY)
    with serving(root=directory, **ALONE, SERVING__DEFAULT_MODEL="wine") as server:
        run(ASK, directory, host=f"127.0.0.1:{server.port}")
        wrong = httpx.post(f"{server.url}/wine/predict", json={"data": [[1.0]]}, timeout=60)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_input")
        assert 'serving_model_info{model="wine"' in httpx.get(f"{server.url}/metrics", timeout=60).text
        assert "/wine/predict" in httpx.get(f"{server.url}/docs.json", timeout=60).json()["paths"]
        assert eventually(lambda: "/wine/predict/label status=200" in server.log())
        line = next(line for line in server.log().splitlines() if "/wine/predict/label status=200" in line)
    (shown,) = (block.text for block in readme.blocks() if block.section == "Observability" and block.kind == "text")
    expected = shown.replace("/iris/predict/label", "/wine/predict/label").replace("iris:", "wine:")
    assert same(line, expected.replace("readme-1", "0" * 32)), normalised(line)


@pytest.mark.slow
def test_the_plugin_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = copy_repository(tmp_path)
    (tmp_path / "bentoml").mkdir()
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    run(ADD, directory, host="")
    write_entry(directory, ENTRY_OF_PLUGIN)
    with serving(root=directory, **ALONE, SERVING__DEFAULT_MODEL="wine") as server:
        body = re.search(r"-d '(.*)'", ASK.text)
        assert body
        answer = httpx.post(f"{server.url}/wine/predict", content=body[1], timeout=60)
        assert (answer.status_code, answer.json()) == (200, {"keep": [True]})


def test_the_page_is_short() -> None:
    assert len(readme.text(readme.OWN_MODEL).splitlines()) <= MOST_LINES
    assert 10 <= len(PLUGIN.text.splitlines()) <= 20


def test_the_files_of_the_example_are_clean(tmp_path: Path) -> None:
    """A reader's linter has nothing to say, and a formatter leaves them as they are."""
    directory = copy_repository(tmp_path)
    shutil.copy(readme.ROOT / "pyproject.toml", directory)
    assert EXPORT.file
    assert PLUGIN.file
    for command in (["check", "--ignore", "ARG002"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", EXPORT.file, PLUGIN.file]
        done = subprocess.run(ruff, cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
