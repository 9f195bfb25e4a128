"""README.md names everything that there is, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.bento.api import describe
from serving.core.errors import ServingError
from serving.http.errors import STATUS
from tests.docs import generated, programs, readme, settings
from tests.docs.normalised import normalised, same
from tests.docs.running import run
from tests.e2e.test_observability import eventually
from tests.server import Server

DOCUMENTS = {("GET", "/docs.json"), ("GET", "/")}
"""Routes that are not in the OpenAPI document, because they are it."""

SIGNATURES = {"serving_default"}
"""Of the SavedModel; it only looks like a metric."""


PROTOCOLS = readme.ROOT / "docs" / "protocols.md"


@pytest.fixture(scope="module")
def routes(model_store: Path) -> set[tuple[str, str]]:  # noqa: ARG001 - the document is made of the stored models
    """What the OpenAPI document has; tests/deploy holds it equal to the one that is served."""
    paths = describe()["paths"]
    return {(method.upper(), path) for path, item in paths.items() for method in item} | DOCUMENTS


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether a relative link of `page` has a file and, after `#`, a heading; others are not followed."""
    if "://" in link:
        return True
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in readme.anchors(target))


def test_generated_parts_are_current() -> None:
    """When this fails: `make docs`."""
    assert generated.current(readme.text()) == readme.text()


def of_protocols(route: tuple[str, str]) -> bool:
    """Whether it belongs to one of the standard protocols, which docs/protocols.md is about."""
    return route[1].startswith(("/v1/", "/v2"))


def test_every_route_is_in_the_table_and_no_other(routes: set[tuple[str, str]]) -> None:
    for page, belongs in ((readme.README, lambda route: not of_protocols(route)), (PROTOCOLS, of_protocols)):
        table = readme.rows("| route | request | answer |", page)
        assert {tuple(route.split()) for row in table for route in readme.code(row[0])} == set(filter(belongs, routes))


def test_every_route_has_a_curl_and_no_other(routes: set[tuple[str, str]]) -> None:
    asked = set()
    for page, block in [
        *((readme.README, block) for block in readme.blocks()),
        *((PROTOCOLS, block) for block in readme.blocks(PROTOCOLS)),
    ]:
        if block.kind == "bash" and (page, block.section) != (readme.README, readme.OWN_MODEL):
            for line in block.text.splitlines():
                if "curl" in line:
                    path = re.search(r"localhost:3000([\w/.:$]*)", line)
                    assert path, line
                    method = re.search(r" -X (\w+) ", line)
                    posts = re.search(r" (-d|-F|--data-binary) ", line)
                    # a variable stands for what the document calls by the same name
                    template = re.sub(r"\$(\w+)", r"{\1_id}", path[1])
                    template = re.sub("/models/(iris|inception_v3)", "/models/{model}", template)
                    template = template.replace("/labels/stable", "/labels/{label}")
                    asked.add((method[1] if method else "POST" if posts else "GET", template))
    assert asked <= routes
    # of a protocol the same with a version or a label is not shown again
    assert routes - asked <= {route for route in routes if "{version}" in route[1] or "{label}" in route[1]}


def test_the_clients_have_the_versions_that_are_installed() -> None:
    """Those of programs that `requirements/`, the benchmarks' peers and Node's package.json lock."""
    locks = [*readme.ROOT.glob("requirements/*"), *readme.ROOT.glob("benchmarks/peers/*.lock")]
    pinned = {line.split()[0] for file in locks for line in file.read_text().splitlines() if "==" in line}
    packages = json.loads((readme.ROOT / "tests/e2e/programs/package.json").read_text())["dependencies"]
    pinned |= {f"{name}=={version}" for name, version in packages.items()}
    clients = {
        (readme.code(name)[0], version)
        for name, version, _ in readme.rows("| client | version | what it asks here |", PROTOCOLS)
    }
    languages = {("HttpClient", "17"), ("net/http", "1.19"), ("fetch", "20")}
    assert {f"{name}=={version}" for name, version in clients - languages} <= pinned


def kinds_of_errors(kind: type[ServingError] = ServingError) -> Iterator[type[ServingError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == ServingError.__module__:
            yield from kinds_of_errors(below)


def test_every_error_is_in_the_table_and_no_other() -> None:
    table = readme.rows("| code | status | meaning |")
    assert {(readme.code(code)[0], int(status)) for code, status, _ in table} == {
        (kind.code, next(STATUS[each] for each in kind.__mro__ if each in STATUS)) for kind in kinds_of_errors()
    }


def test_every_setting_is_in_the_table_and_no_other() -> None:
    table = readme.rows("| key | default | allowed | meaning |")
    assert {key for row in table for key in readme.code(row[0])} == set(settings.keys())


def test_settings_that_are_mentioned_exist() -> None:
    mentioned = settings.mentioned(readme.text())
    mentioned |= {
        key for row in readme.rows("| limit | setting | what happens beyond it |") for key in readme.code(row[1])
    }
    assert mentioned
    assert {key for key in mentioned if not settings.is_key(key)} == set()


def test_variables_that_are_mentioned_exist() -> None:
    mentioned = settings.mentioned_variables(readme.text())
    assert mentioned
    assert {name for name in mentioned if not settings.is_variable(name)} == set()


def test_every_metric_is_in_the_table_and_no_other(server: Server) -> None:
    # Of some metrics there are no series before the standard protocols have asked.
    answered = httpx.post(
        f"{server.url}/v1/models/iris:predict", json={"instances": [[5.1, 3.5, 1.4, 0.2]]}, timeout=60
    )
    assert answered.status_code == 200
    table = readme.rows("| metric | type | labels | meaning |")
    named = {readme.code(name)[0]: (kind, set(readme.code(labels))) for name, kind, labels, _ in table}

    def exposed() -> dict[str, tuple[str, set[str]]]:
        found = {}
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics", timeout=30).text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        return found

    eventually(lambda: exposed().keys() >= named.keys())
    assert named == exposed()


def test_metrics_that_are_mentioned_exist() -> None:
    table = {name for row in readme.rows("| metric | type | labels | meaning |") for name in readme.code(row[0])}
    mentioned = set(re.findall(r"\b(?:bentoml_service|serving)_[a-z_]+", readme.prose()))
    assert mentioned - SIGNATURES <= table


@pytest.mark.parametrize("program", programs.PROGRAMS)
def test_every_option_is_in_a_table_and_no_other(program: str) -> None:
    table = readme.rows("| option | of | meaning |")
    named = {readme.code(option)[0] for option, of, _ in table if program in readme.code(of)}
    assert named == programs.options(program)
    assert {name for _, of, _ in table for name in readme.code(of)} == set(programs.PROGRAMS)


def test_commands_of_serving_that_are_mentioned_exist() -> None:
    mentioned = re.findall(
        r"(?:`|\.venv/bin/)(serving (?:jobs |batch |models )?[a-z-]+)(?: --| [A-Z]|`| )", readme.text()
    )
    assert set(mentioned) - {"serving jobs", "serving batch", "serving models"} == set(programs.serving_commands())


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", readme.prose())
    assert links
    assert [link for link in links if not leads_somewhere(readme.README, link)] == []


def test_files_that_are_mentioned_exist() -> None:
    mentioned = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|yaml|toml|md))`", readme.prose())
    assert [path for path in mentioned if path != ".build/" and not (readme.ROOT / path).exists()] == []


def test_the_layout_is_that_of_the_repository() -> None:
    (layout,) = (block for block in readme.blocks() if block.section == "Layout")
    parent = ""
    for line in layout.text.splitlines():
        path = line.split("  ")[0] if not line.startswith(" ") else parent + line.split()[0]
        parent = path if not line.startswith(" ") else parent
        assert (readme.ROOT / path).exists(), path


def test_the_log_line_is_that_of_the_server(server: Server, tmp_path: Path) -> None:
    """As JSON from the server; the text form comes from a real server in test_own_model."""
    (ask,) = (block for block in readme.blocks() if "readme-1" in block.text and block.kind == "bash")
    (expected,) = (block for block in readme.blocks() if "readme-1" in block.text and block.kind == "json")
    run(ask, tmp_path, host=f"127.0.0.1:{server.port}")

    def lines() -> list[str]:
        return [line for line in server.log().splitlines() if "readme-1" in line and "/label" in line]

    assert eventually(lambda: bool(lines()))
    assert same(lines()[-1], expected.text), normalised(lines()[-1])


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    """Each message has a part that stands in the code, or comes from Python, the system or pydantic."""
    sources = [*(readme.ROOT / "serving").rglob("*.py"), *(readme.ROOT / "train").rglob("*.py")]
    constants = " ".join(
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    ours = (
        "is not in the model store",
        "is in use",
        "the ImageNet weights cannot be had",
        " made it, ",
        "cannot be loaded by the installed onnxruntime",
    )
    others = (
        "Extra inputs are not permitted",
        "No module",
    )
    assert [part for part in ours if part not in constants] == []
    messages = re.findall(r"\*\*`([^`]+)`\*\*", readme.section("Troubleshooting"))
    assert len(messages) >= len(ours) + len(others)
    assert [message for message in messages if not any(part in message for part in (*ours, *others))] == []
