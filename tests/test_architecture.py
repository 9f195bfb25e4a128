"""The rules that keep the layout: which way imports point, and what happens at import time."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVING = ROOT / "serving"
MODULES = sorted(SERVING.rglob("*.py"))
TRAINING = {"tensorflow", "keras", "sklearn", "skl2onnx", "onnx", "tf2onnx", "train"}


def _name(module: Path) -> str:
    return ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(module: Path) -> set[str]:
    """Everything that a module imports, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _below(names: set[str], *packages: str) -> set[str]:
    return {name for name in names for package in packages if name == package or name.startswith(f"{package}.")}


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_what_ships_does_not_import_what_trains(module: Path) -> None:
    # `serving models add` needs onnx, which is an extra.
    allowed = {"onnx"} if _name(module) == "serving.add.graph" else set()
    assert _below(imports(module), *TRAINING - allowed) == set()


OUTER = ("serving.http", "serving.bento.runners", "serving.bento.process", "serving.bento.service", "service")
HTTP = ("starlette", "fastapi", "uvicorn", "httpx", "aiohttp", "_bentoml_sdk", "_bentoml_impl")


@pytest.mark.parametrize("module", sorted((SERVING / "engines").glob("*.py")), ids=_name)
def test_engines_know_no_http_no_bentoml_and_no_queue(module: Path) -> None:
    assert (
        _below(imports(module), *OUTER, *HTTP, "bentoml", "serving.core.batcher", "serving.core.admission", "asyncio")
        == set()
    )


@pytest.mark.parametrize(
    "module",
    [
        SERVING / f"{name}.py"
        for name in ("models", "images", "settings", "errors", "admission", "metrics", "drain", "logs")
    ],
    ids=_name,
)
def test_inner_modules_do_not_import_outer_ones(module: Path) -> None:
    assert _below(imports(module), *OUTER, *HTTP) == set()


@pytest.mark.parametrize("module", [SERVING / "errors.py", SERVING / "images.py"], ids=_name)
def test_the_innermost_know_no_bentoml(module: Path) -> None:
    assert _below(imports(module), "bentoml") == set()


@pytest.mark.parametrize("module", sorted((SERVING / "jobs").glob("*.py")), ids=_name)
def test_jobs_know_neither_the_api_nor_bentoml(module: Path) -> None:
    """A worker starts in a second, because it imports neither; and stores and workers serve any front."""
    assert _below(imports(module), *OUTER, "bentoml", "_bentoml_impl", "_bentoml_sdk", "fastapi") == set()


@pytest.mark.parametrize("module", sorted((SERVING / "batch").rglob("*.py")), ids=_name)
def test_the_batch_pattern_knows_neither_the_api_nor_bentoml(module: Path) -> None:
    """Scorers run without a server, beside any front."""
    assert _below(imports(module), *OUTER, *HTTP, "bentoml") == set()


def test_only_runners_and_service_know_the_runners() -> None:
    assert [_name(module) for module in MODULES if _below(imports(module), "serving.bento.runners")] == []


def _environment_reads(module: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv", "unsetenv"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {"environ", "getenv"} & {alias.name for alias in node.names}, module


# Others read and set variables that are not settings: prometheus_client's directory, the one by which BentoML's
# supervisor sees that it is in a container, and where the models are that a server imported.
MAY_READ_THE_ENVIRONMENT = {
    "serving.settings",
    "serving.metrics",
    "serving.bento.process",
    "serving.bento.service",
    "serving.store.imported",
}


@pytest.mark.parametrize("module", [*MODULES, ROOT / "service.py"], ids=_name)
def test_the_environment_is_read_in_settings_only(module: Path) -> None:
    assert bool(list(_environment_reads(module))) == (_name(module) in MAY_READ_THE_ENVIRONMENT)


def run(code: str, *, home: Path | None = None) -> str:
    """Standard output of a fresh interpreter."""
    variables = dict(os.environ) if home is None else {**os.environ, "BENTOML_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


AT_IMPORT = """
import socket, sys, threading
def refuse(*_, **__):
    raise AssertionError("no network while importing")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import onnxruntime
def load(*_, **__):
    raise AssertionError("no model is loaded while importing")
onnxruntime.InferenceSession = load
import service
print([thread.name for thread in threading.enumerate() if thread is not threading.main_thread()])
print([name for name in TRAINING if name in sys.modules])
"""


def test_importing_the_service_loads_no_model_and_no_training_library_and_starts_nothing(tmp_path: Path) -> None:
    """The store is empty: whoever looked for a model would not find one."""
    assert run(AT_IMPORT.replace("TRAINING", repr(sorted(TRAINING))), home=tmp_path) == "[]\n[]\n"


def test_modules_stay_small() -> None:
    sizes = {_name(module): len(module.read_text().splitlines()) for module in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > 300} == {}
