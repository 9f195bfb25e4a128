"""What is running is named exactly, and two of them can be compared."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import inventory
from serving.cli import main
from serving.commands import exits
from serving.inventory import built_service, take_inventory
from serving.inventory.diff import Difference, differences
from serving.settings import get_settings
from serving.store.models import open_model
from tests.server import Server

FIRST: dict[str, Any] = {
    "service": {"name": "model_serving", "version": "1"},
    "cpu": None,
    "libraries": {"numpy": "2.4.6", "old": "1"},
    "models": {"iris": {"tag": "iris:a", "metrics": {"accuracy": 1.0}}},
}
SECOND: dict[str, Any] = {
    "service": {"name": "model_serving", "version": "1"},
    "cpu": {"model": "some", "cores": 2},
    "libraries": {"numpy": "2.5.0", "new": "2"},
    "models": {"iris": {"tag": "iris:b", "metrics": {"accuracy": 1.0}}},
}
DIFFERENT = [
    "+ libraries.new 2",
    "~ libraries.numpy 2.4.6 -> 2.5.0",
    "- libraries.old 1",
    "~ models.iris.tag iris:a -> iris:b",
]


def write(path: Path, content: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.usefixtures("model_store")
def test_an_inventory_names_what_is_here() -> None:
    taken = take_inventory(get_settings())
    assert taken.python is not None
    assert taken.python.endswith(platform.python_version())
    assert taken.system is not None
    assert taken.system.machine == platform.machine()
    assert taken.cpu is not None
    assert taken.cpu.cores >= 1
    assert taken.engines is not None
    assert "CPUExecutionProvider" in taken.engines["onnxruntime"].providers
    for library in ("numpy", "onnxruntime", "pydantic-core"):
        assert taken.libraries[library] == importlib.metadata.version(library)
    assert list(taken.models) == ["iris", "inception_v3"]
    stored, described = open_model("iris:latest"), taken.models["iris"]
    assert (described.tag, described.created_at) == (stored.tag, stored.created_at)
    assert described.files["model.onnx"] == hashlib.sha256(stored.onnx_path.read_bytes()).hexdigest()
    assert described.weights == stored.metadata.weights
    assert described.inputs[0].shape == [None, 4]
    assert described.metrics == stored.metadata.metrics


def test_the_server_tells_its_own(server: Server) -> None:
    answered = httpx.get(f"{server.url}/inventory", timeout=60).json()
    # It runs with the libraries, on the machine and with the models of these tests.
    assert answered == json.loads(take_inventory(get_settings()).model_dump_json())


def test_a_bento_says_what_it_was_built_from(tmp_path: Path) -> None:
    assert built_service(tmp_path).version is None
    recorded = {"name": "model_serving", "version": "v1-2-gabc", "code": "0.1.0", "revision": "abc"}
    write(tmp_path / inventory.FILE, {"service": recorded, "libraries": {}, "models": {}})
    assert built_service(tmp_path).model_dump() == recorded


def test_what_differs_is_told_with_its_path() -> None:
    assert list(differences(FIRST, FIRST)) == []
    assert list(differences(FIRST, SECOND))[1] == Difference("libraries.numpy", "2.4.6", "2.5.0")
    gone = SECOND | {"models": {}}
    assert list(differences({"models": FIRST["models"]}, gone)) == [
        Difference("models.iris", FIRST["models"]["iris"], None)
    ]


@contextmanager
def answering(status: int, content: bytes) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", asked
        finally:
            httpd.shutdown()
            thread.join()


def test_files_bentos_and_services_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "first.json", FIRST)
    write(tmp_path / "bento/src" / inventory.FILE, SECOND)
    with answering(200, json.dumps(SECOND).encode()) as (url, asked):
        for second in (tmp_path / "bento", url, f"{url}/inventory"):
            assert main(["inventory", "--diff", file, str(second)]) == exits.DIFFERENT
            assert capsys.readouterr().out.splitlines() == DIFFERENT
    assert asked == ["/inventory", "/inventory"]
    assert main(["inventory", "--diff", file, file]) == exits.DONE
    assert capsys.readouterr().out == ""


def test_a_difference_can_be_read_by_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = (write(tmp_path / "a", FIRST), write(tmp_path / "b", SECOND))
    assert main(["inventory", "--json", "--diff", *sides]) == exits.DIFFERENT
    assert json.loads(capsys.readouterr().out)["libraries.new"] == [None, "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "not an inventory"), ('{"models": {}}', "not an inventory")],
    ids=["none", "broken", "list", "other"],
)
def test_what_is_no_inventory_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    other = tmp_path / "other"
    if content is not None:
        other.write_text(content)
    assert main(["inventory", "--diff", write(tmp_path / "a", FIRST), str(other)]) == exits.USAGE
    assert message in capsys.readouterr().err


def test_a_directory_without_an_inventory_says_what_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inventory", "--diff", str(tmp_path), str(tmp_path)]) == exits.USAGE
    assert "make bento" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["closed", "failing"])
def test_a_service_that_does_not_answer(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(500, b"") as (url, _):
        failing = url
        if port == "failing":
            assert main(["inventory", "--diff", failing, failing]) == exits.SERVER
            assert "answered with 500" in capsys.readouterr().err
    if port == "closed":
        assert main(["inventory", "--diff", failing, failing]) == exits.SERVER


@pytest.mark.usefixtures("model_store")
def test_it_is_printed_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inventory"]) == exits.DONE
    lines = capsys.readouterr().out.splitlines()
    assert f"{'python':<10} CPython {platform.python_version()}" in lines
    assert f"{'library':<10} numpy {importlib.metadata.version('numpy')}" in lines
    assert main(["inventory", "--json"]) == exits.DONE
    assert json.loads(capsys.readouterr().out) == json.loads(take_inventory(get_settings()).model_dump_json())


def test_a_model_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVING__MODELS__IRIS__TAG", "iris:none")
    get_settings.cache_clear()
    try:
        assert main(["inventory"]) == exits.FAILED
    finally:
        get_settings.cache_clear()
    assert "iris:none is not in the model store" in capsys.readouterr().err
