"""Every command of README.md runs and prints what README says, or is listed here with the reason why it is not run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from serving.settings import ENV_PREFIX, Settings
from tests.docs import programs, readme
from tests.docs.running import make_workspace, run
from tests.server import Server

SLOW_EXPORT = "takes a minute and 5 GB; tests/train does it"
NOT_RUN = {
    "make serve": "makes the environment that the tests run in; tests/e2e starts the server",
    "make test": "these are the tests",
    ".venv/bin/python -m train.inception_v3": "downloads the ImageNet weights",
    ".venv/bin/python -m train.inception_v3 --weights random --seed 1": SLOW_EXPORT,
    ".venv/bin/python -m train.inception_v3 --weights my_model.keras --labels my_labels.json": SLOW_EXPORT,
    "VIRTUAL_ENV=.venv .venv/bin/uv pip install --require-hashes -r requirements/openvino.lock": (
        "must not change the environment that the tests run in"
    ),
    "SERVING__MODELS__INCEPTION_V3__ENGINE=openvino make serve": (
        "needs OpenVINO; tests/core/test_openvino_engine.py has its tests"
    ),
    "make bento": "copies every model into a Bento; tests/deploy does it",
    "make image": "needs a container engine; tests/image does it",
    ".venv/bin/bentoml serve model_serving:latest": "needs that Bento",
    "SERVING__TRACING__EXPORTER=otlp SERVING__TRACING__ENDPOINT=http://127.0.0.1:4318/v1/traces make serve": (
        "serves until it is stopped; tests/e2e does it with a collector"
    ),
    'SERVING__SERVER__WORKERS=2 SERVING__MODELS__INCEPTION_V3__IMAGE__ALLOWED_FORMATS=\'["JPEG", "PNG"]\' make serve': (
        "serves until it is stopped; the settings are read below"
    ),
    ".venv/bin/serving worker --model inception_v3 --concurrency 1": "works until it is stopped; tests/e2e does it",
    ".venv/bin/python -m benchmarks iris --rounds 1 --seconds 2 --output /tmp/results.md": "measures for minutes",
    ".venv/bin/python -m pytest tests/docs -q": "these are the tests",
    '.venv/bin/bentoml models export inception_v3:latest "$PWD/inception_v3.bentomodel"': "writes 90 MB",
    '.venv/bin/bentoml models import "$PWD/inception_v3.bentomodel"': "needs that file",
}

SHELL = [block for block in readme.blocks() if block.kind == "bash"]
RUN = [block for block in SHELL if not all(line in NOT_RUN for line in block.text.splitlines())]

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="README's commands need curl")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="module")
def picture(workspace: Path, server: Server) -> Path:
    """The image that the commands send, made as README makes it."""
    (block,) = (block for block in RUN if 'save("cat.jpg")' in block.text)
    run(block, workspace, host=f"127.0.0.1:{server.port}", grpc=server.grpc_target)
    return workspace / "cat.jpg"


@needs_curl
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_a_command_prints_what_readme_says(
    block: readme.Block, workspace: Path, server: Server, picture: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert picture.stat().st_size > 1000
    # What is trained here must not become the latest version in the store of the other tests.
    store = tmp_path_factory.getbasetemp() / "readme-store"
    store.mkdir(exist_ok=True)
    home = {"BENTOML_HOME": str(store)} if block.section == "Train" else {}
    run(block, workspace, host=f"127.0.0.1:{server.port}", grpc=server.grpc_target, **home)


def test_what_is_not_run_is_in_readme() -> None:
    lines = {line for block in SHELL for line in block.text.splitlines()}
    assert NOT_RUN.keys() <= lines


def test_every_curl_shows_its_output() -> None:
    assert [block.name for block in SHELL if "curl" in block.text and block.output is None] == []


@pytest.mark.parametrize("command", NOT_RUN)
def test_what_is_not_run_exists(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are valid; its target, subcommand, options and files are there."""
    words = shlex.split(command)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        if name.startswith(ENV_PREFIX):
            monkeypatch.setenv(name, value)
    Settings()
    program, *arguments = words
    options = {word for word in arguments if word.startswith("--")}
    if program == "make":
        assert arguments[0] in programs.targets()
    elif program == ".venv/bin/bentoml":
        from bentoml_cli.cli import create_bentoml_cli

        found: click.Command = create_bentoml_cli()
        for word in arguments:
            if isinstance(found, click.Group):
                found = found.commands[word]
        named = {option for parameter in found.params for option in parameter.opts}
        assert options <= named
    elif program == ".venv/bin/serving":
        (command,) = (
            command
            for name, command in programs.serving_commands().items()
            if f"serving {' '.join(arguments)} ".startswith(f"{name} ")
        )
        assert options <= {option.split()[0] for option in programs.serving_options(command)}
    elif program == ".venv/bin/uv":
        assert (readme.ROOT / arguments[-1]).is_file()
    elif arguments[:2] == ["-m", "pytest"]:
        assert (readme.ROOT / arguments[2]).is_dir()
    else:
        assert (program, arguments[0]) == (".venv/bin/python", "-m")
        assert options <= programs.options(arguments[1])


@pytest.mark.parametrize("mention", sorted(set(re.findall(r"`make ([a-z-]+)( [A-Z]+=\d+)?`", readme.text()))))
def test_targets_that_are_mentioned_exist(mention: tuple[str, str]) -> None:
    target, variable = mention
    assert target in programs.targets()
    if variable:
        assert re.search(rf"^{variable.strip().partition('=')[0]} \?=", programs.makefile(), re.MULTILINE)
