"""The rules that keep the layout, as far as import-linter (`make lint`) cannot say them."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
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


PRIVATE = {"_bentoml_impl", "_bentoml_sdk", "bentoml._internal"}
# Of the server, with a check at the start that names what is different; and of models at rest, which need no server.
MAY_USE_PRIVATE_PARTS = {"serving.bento.internals", "serving.store.bentoml_store"}


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_private_parts_of_bentoml_are_used_in_two_modules(module: Path) -> None:
    """Whoever takes up another version of BentoML looks there."""
    assert bool(_below(imports(module), *PRIVATE)) == (_name(module) in MAY_USE_PRIVATE_PARTS)


def test_the_rules_of_the_linter_hold_for_every_package() -> None:
    """A package that import-linter's layers leave out would have none: see pyproject.toml."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    listed = {name.strip() for layer in layers for name in layer.split("|")}
    packages = {".".join(_name(module).split(".")[:2]) for module in MODULES} - {"serving", "serving.__main__"}
    assert packages == listed


def _environment_reads(module: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv", "unsetenv"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {"environ", "getenv"} & {alias.name for alias in node.names}, module


# Others read and set variables that are not settings: prometheus_client's directory, those of proxies, the one by which
# BentoML's supervisor sees that it is in a container, where the models are that a server imported, gRPC's for forks.
MAY_READ_THE_ENVIRONMENT = {
    "serving.settings",
    "serving.settings.proxies",
    "serving.metrics",
    "serving.bento.process",
    "serving.bento.internals",
    "serving.store.imported",
    "serving.client.grpc_forks",
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


MODELS = re.compile("iris|inception", re.IGNORECASE)
# Where names of models are data: what earlier versions called settings, and `serving.settings`' variables of old.
MAY_NAME_MODELS = {"serving.settings.renamed"}
_EXAMPLES = {"examples", "help", "epilog", "description"}


def names_of_models(source: str) -> list[str]:
    """The places of code, other than documentation and examples, that name a model that comes with the project."""
    tree = ast.parse(source)
    documentation: set[ast.AST] = set()
    for node in ast.walk(tree):
        # A string that is a statement says something to people: a docstring, or one below an attribute.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation.add(node.value)
        if isinstance(node, ast.keyword) and node.arg in _EXAMPLES:
            documentation.update(ast.walk(node.value))
    found: list[str] = []
    for node in ast.walk(tree):
        names = [
            getattr(node, field) for field in ("id", "name", "attr", "arg", "module", "asname") if hasattr(node, field)
        ]
        if isinstance(node, ast.Constant) and node not in documentation:
            names.append(node.value)
        found += [
            f"{getattr(node, 'lineno', 0)}: {name}" for name in names if isinstance(name, str) and MODELS.search(name)
        ]
    return found


@pytest.mark.parametrize("module", [*MODULES, ROOT / "service.py"], ids=_name)
def test_no_code_knows_a_model_by_name(module: Path) -> None:
    found = names_of_models(module.read_text())
    assert bool(found) == (_name(module) in MAY_NAME_MODELS), found


@pytest.mark.parametrize("module", [*MODULES, ROOT / "service.py"], ids=_name)
def test_no_comment_knows_a_model_by_name(module: Path) -> None:
    tokens = tokenize.generate_tokens(io.StringIO(module.read_text()).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT and MODELS.search(token.string)]
    assert comments == []


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ('"""Predicts iris."""', 0),
        ('def f():\n    """iris"""', 0),
        ('x = 1\n"""Of iris."""', 0),
        ('Field(examples=["iris"])', 0),
        ('@click.option("--model", help="as iris")\ndef f(): pass', 0),
        ('x = "iris"', 1),
        ('x = f"{y}/iris"', 1),
        ("iris = 1", 1),
        ("x.inception_v3", 1),
        ("f(iris=1)", 1),
        ("import iris", 1),
        ("from serving import iris_runner", 1),
        ("class IrisEngine: pass", 1),
        ("def f(iris): pass", 1),
    ],
)
def test_a_name_of_a_model_in_code_would_be_found(source: str, places: int) -> None:
    assert len(names_of_models(source)) == places


MANY_LINES = 500
"""An alarm and no law: what belongs together stays together, and whoever writes more says here why."""


def test_modules_stay_readable() -> None:
    sizes = {_name(module): len(module.read_text().splitlines()) for module in MODULES}
    assert {name for name, lines in sizes.items() if lines > MANY_LINES} == set()
