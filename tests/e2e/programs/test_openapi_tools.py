"""Tools that read the OpenAPI document: linters, and what makes types of it for TypeScript's strict compiler."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from serving.bento import api
from serving.settings import get_settings
from tests.e2e.programs.running import HERE, NODE, node
from tests.server import Server

STRICT = ("--strict", "--noUncheckedIndexedAccess", "--skipLibCheck")
MODULES = ("--module", "nodenext", "--target", "es2022", "--types", "node")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Path:  # noqa: ARG001 - it has to be filled
    """The document of the running server, and the routes of the batch pattern, for which that one has no database."""
    settings = get_settings()
    batch = settings.batch.model_copy(update={"database_url": "sqlite:///batch.db"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(api, "get_settings", lambda: settings.model_copy(update={"batch": batch}))
        found = api.describe()
    assert "/batch/runs" in found["paths"]
    file = tmp_path_factory.mktemp("document") / "docs.json"
    file.write_text(json.dumps(found))
    return file


def command(package: str, name: str) -> Path:
    """The file of a command that a package of Node has."""
    directory = NODE / "node_modules" / package
    return directory / json.loads((directory / "package.json").read_text())["bin"][name]


def test_redocly_finds_no_error(document: Path) -> None:
    off = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    printed = node(command("@redocly/cli", "redocly"), "lint", "--format", "json", document, accepted=(0, 1), **off)
    found = json.loads(printed)
    assert [problem for problem in found["problems"] if problem["severity"] == "error"] == []
    # Not every route has something to refuse.
    assert {problem["ruleId"] for problem in found["problems"]} <= {"operation-4xx-response"}


def test_spectral_finds_no_error(document: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text('extends: ["spectral:oas"]\n')
    printed = node(
        command("@stoplight/spectral-cli", "spectral"),
        *("lint", "--ruleset", rules, "--format", "json", "--fail-severity", "error", document),
        accepted=(0, 1),
    )
    found = json.loads(printed)
    # Operations have a summary, and nobody is named whom to ask.
    assert {problem["code"] for problem in found} <= {"operation-description", "info-contact"}, found


def test_typescript(server: Server, document: Path, tmp_path: Path, client: httpx.Client, photo: bytes) -> None:
    """The types of openapi-typescript, a program with openapi-fetch, and the compiler at its strictest."""
    (tmp_path / "photo.jpg").write_bytes(photo)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "typed.ts").write_text((HERE / "typed.ts").read_text())
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    node(command("openapi-typescript", "openapi-typescript"), document, "--output", tmp_path / "api.ts")
    node(command("typescript", "tsc"), *STRICT, *MODULES, tmp_path / "typed.ts")
    told = json.loads(node(tmp_path / "typed.js", server.url, tmp_path / "photo.jpg"))
    rows = client.post("/iris/predict", json={"data": [[5.1, 3.5, 1.4, 0.2]]}).json()["prediction"]
    label = client.post("/inception_v3/predict/label", files={"image": photo}).json()["prediction"]
    assert told == {
        "rows": rows,
        "refusal": "invalid_input",
        "classes": 5,
        "upload": label,
        "job": "succeeded",
        "tensorflow": rows,
        "classified": ["setosa", rows[0][0]],
        "inferred": ["setosa"],
        "versions": 1,
    }
