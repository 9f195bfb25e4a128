"""Codecs of the user's own: every program finds them beside service.py, and says in a line when it cannot use one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import serving.codecs.opening
from serving.codecs.opening import load_plugin
from serving.core.errors import ModelError
from tests.server import ROOT
from tests.server import serving as run_server


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for that of service.py, with one plug-in that can be used and some that cannot."""
    package = tmp_path / f"plugins_of_{tmp_path.name}"
    package.mkdir()
    (package / "own.py").write_text(
        "from serving.codecs.tensors import TensorsCodec\nclass Own(TensorsCodec): ...\nclass Other: ...\n"
    )
    (package / "broken.py").write_text("class Own(")
    (package / "raising.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.setattr(serving.codecs.opening, "SOURCE", tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    return package


def test_a_class_beside_service_py_is_found(source: Path) -> None:
    assert load_plugin(f"{source.name}.own:Own").__name__ == "Own"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere:Own", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("own:Missing", "cannot be imported: AttributeError"),
        ("broken:Own", "cannot be imported: SyntaxError"),
        ("raising:Own", "cannot be imported: RuntimeError: no licence"),
        ("own:Other", "is no subclass of serving.codecs.base.Codec"),
    ],
)
def test_what_is_no_plugin_is_named(source: Path, path: str, said: str) -> None:
    path = path if path.startswith("nowhere") else f"{source.name}.{path}"
    with pytest.raises(ModelError, match=f"plugin {path} {said}"):
        load_plugin(path)


def test_a_command_that_runs_elsewhere_finds_it(tmp_path: Path) -> None:
    """The `serving` command has neither the repository nor the working directory on its path."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/own.py").write_text("from serving.codecs.tensors import TensorsCodec as Own\n")
    for name in ("serving", "configuration.yaml", "service.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import serving.settings as settings; sys.path.pop(0); "
        f"settings.SOURCE = settings.Path({str(tmp_path)!r}); "
        "from serving.codecs.opening import load_plugin; print(load_plugin('plugins.own:Own').__name__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "TensorsCodec\n", done.stderr


@pytest.mark.usefixtures("model_store")
def test_a_server_with_a_plugin_that_cannot_be_imported_does_not_start() -> None:
    with run_server(wait=False, SERVING__MODELS__IRIS__PLUGIN="plugins.nowhere:Own") as server:
        assert server.process.wait(120) != 0
        lines = [line for line in server.log().splitlines() if "plugin plugins.nowhere:Own cannot be imported" in line]
        assert len(lines) == 1
        assert "Traceback" not in server.log()
