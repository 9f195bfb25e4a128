"""The pages of docs/: their commands run and print what they say, and what they name is there.

A block that cannot be run has the reason right before it, as a comment that no reader sees:
`<!-- not run: needs a cluster -->`. What it names is looked up all the same. `test_own_model` runs the worked example.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serving.batch.tables import VERSION, Base
from serving.codecs.base import Codec
from tests.docs import programs, readme, settings
from tests.docs.running import make_workspace, run
from tests.docs.test_reference import DOCUMENTS, SIGNATURES, leads_somewhere
from tests.server import Server

TABLES = {VERSION, *Base.metadata.tables}
SHELL = [(page, block) for page in readme.PAGES for block in readme.blocks(page) if block.kind == "bash"]
TO_RUN = [(page, block) for page, block in SHELL if block.not_run is None and page != readme.OWN_MODEL]

pytestmark = pytest.mark.skipif(not readme.PAGES, reason="there are no pages in docs/")
each_page = pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.stem)


def _name(value: object) -> str:
    return value.stem if isinstance(value, Path) else getattr(value, "name", str(value))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As README's reader has it, with the image that README makes."""
    directory = make_workspace(tmp_path_factory.mktemp("docs"))
    (block,) = (block for block in readme.blocks() if block.kind == "bash" and 'save("cat.jpg")' in block.text)
    run(block, directory, host="")
    return directory


@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages' commands need curl")
@pytest.mark.parametrize(("page", "block"), TO_RUN, ids=_name)
def test_a_command_prints_what_the_page_says(page: Path, block: readme.Block, workspace: Path, server: Server) -> None:
    assert "curl" not in block.text or block.output is not None, f"{page.name}, {block.name}: show the output"
    run(block, workspace, host=f"127.0.0.1:{server.port}", grpc=server.grpc_target)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block, without variables and what is piped to or from it."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:\||&&|;)\s", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield words


@pytest.mark.parametrize(("page", "block"), SHELL, ids=_name)
def test_commands_of_this_repository_have_what_is_asked_of_them(page: Path, block: readme.Block) -> None:
    """Its make targets, `serving` commands and their options; also of what is not run."""
    known = programs.serving_commands()
    for words in commands(block.text):
        program = words[0].rpartition("/")[2]
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if program == "make":
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(targets) <= set(programs.targets()), f"{page.name}: {words}"
        elif program == "serving" and options != {"--help"}:
            called = [
                command for name, command in known.items() if f"{' '.join(words[1:])} ".startswith(name[8:] + " ")
            ]
            assert called, f"{page.name}: {words}"
            assert options <= {option.split()[0] for option in programs.serving_options(called[0])}, (
                f"{page.name}: {words}"
            )
        elif words[:2] == [".venv/bin/python", "-m"] and words[2] in programs.PROGRAMS:
            assert options <= programs.options(words[2]), f"{page.name}: {words}"


@each_page
def test_targets_and_commands_that_are_mentioned_exist(page: Path) -> None:
    prose = readme.prose(page)
    assert set(re.findall(r"`make ([a-z-]+)[^`]*`", prose)) <= set(programs.targets())
    commands = programs.serving_commands()
    groups = {name.rpartition(" ")[0] for name in commands}
    for mention in re.findall(r"`(serving [a-z][^`]*)`", prose):
        assert mention in groups or any(f"{mention} ".startswith(f"{name} ") for name in commands), mention


@each_page
def test_settings_and_variables_that_are_mentioned_exist(page: Path) -> None:
    text = readme.text(page)
    unknown = {key for key in settings.mentioned(text) if not settings.is_key(key) and not (readme.ROOT / key).exists()}
    assert unknown == set()
    assert {name for name in settings.mentioned_variables(text) if not settings.is_variable(name)} == set()


@each_page
def test_metrics_that_are_mentioned_exist(page: Path) -> None:
    table = {name for row in readme.rows("| metric | type | labels | meaning |") for name in readme.code(row[0])}
    mentioned = set(re.findall(r"`((?:bentoml_service|serving)_[a-z_]+)(?:\{[^`]*)?`", readme.prose(page)))
    series = {re.sub("_(bucket|count|sum)$", "", name) if name not in table else name for name in mentioned}
    assert series - SIGNATURES - TABLES <= table


@each_page
def test_routes_that_are_mentioned_exist(page: Path, server: Server) -> None:
    paths = httpx.get(f"{server.url}/docs.json").json()["paths"]
    routes = {(method.upper(), path) for path, item in paths.items() for method in item} | DOCUMENTS
    mentioned = re.findall(r"`(GET|POST|PUT|DELETE) (/[^`\s?]*)[^`]*`", readme.prose(page))
    named = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in mentioned}
    known = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in routes}
    # `{model}` stands for each of them
    known |= {(method, re.sub("^/(iris|inception_v3)/", "/{}/", path)) for method, path in known}
    assert named <= known


@each_page
def test_links_and_files_that_are_mentioned_exist(page: Path) -> None:
    prose = readme.prose(page)
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not leads_somewhere(page, link)] == []
    files = re.findall(r"`((?:serving|deploy|tests|train|requirements|benchmarks|docs)/[\w./-]*)`", prose)
    made_here = {block.file for block in readme.blocks(page)} | {"deploy/.env"}
    assert [file for file in files if file not in made_here and not (readme.ROOT / file).exists()] == []


def test_the_plugin_of_the_architecture_is_a_codec_that_answers() -> None:
    (block,) = (each for each in readme.blocks(readme.ROOT / "docs/architecture.md") if each.kind == "python")
    written: dict[str, Any] = {}
    exec(block.text, written)  # noqa: S102 - a block of our own page
    towers = written["TwoTowers"]
    assert issubclass(towers, Codec)
    outputs = {"user": np.array([[1.0, 2.0]]), "item": np.array([[3.0, 4.0]])}
    assert towers.answer(None, outputs, None) == b'{"scores":[11.0]}'


def test_the_architecture_fits_on_two_pages() -> None:
    assert len(readme.text(readme.ROOT / "docs/architecture.md").splitlines()) <= 120
