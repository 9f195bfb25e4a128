"""Which engine the settings, the machine and what is installed lead to. The engines here are fakes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serving.core.errors import ModelError
from serving.engines import InceptionV3Engine, openvino_inception_v3, selection
from serving.engines.selection import check_engine, choose_engine, open_inception_v3
from tests.tiny_models import tiny_model

ROOT = Path(__file__).resolve().parents[2]
CPU = ["CPUExecutionProvider"]
GPU = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@dataclass
class FakeMachine:
    installed: bool = True
    bfloat16: bool = True
    asked: list[str] = field(default_factory=list)

    def openvino_is_installed(self) -> bool:
        self.asked.append("installed")
        return self.installed

    def cpu_has_bfloat16(self) -> bool:
        self.asked.append("bfloat16")
        return self.bfloat16


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    fake = FakeMachine()
    monkeypatch.setattr(selection, "openvino_is_installed", fake.openvino_is_installed)
    monkeypatch.setattr(selection, "cpu_has_bfloat16", fake.cpu_has_bfloat16)
    return fake


class FakeEngine:
    def __init__(self, model: Any, **options: Any) -> None:
        self.model = model
        self.options = options


class FakeOpenVinoEngine(FakeEngine):
    pass


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "InceptionV3Engine", FakeEngine)
    monkeypatch.setattr(selection, "OpenVinoInceptionV3Engine", FakeOpenVinoEngine)


@pytest.mark.parametrize(
    ("installed", "bfloat16", "providers", "expected"),
    [
        (True, True, CPU, "openvino"),
        (True, True, [], "openvino"),
        (True, False, CPU, "onnxruntime"),
        (False, True, CPU, "onnxruntime"),
        (False, False, CPU, "onnxruntime"),
        (True, True, GPU, "onnxruntime"),
    ],
)
def test_auto(machine: FakeMachine, installed: bool, bfloat16: bool, providers: list[str], expected: str) -> None:
    machine.installed, machine.bfloat16 = installed, bfloat16
    assert choose_engine("auto", providers=providers) == expected


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_is_named_is_taken_without_looking(machine: FakeMachine, name: Any) -> None:
    machine.installed = machine.bfloat16 = False
    assert choose_engine(name, providers=CPU) == name
    assert machine.asked == []


def test_the_cpu_is_not_asked_where_openvino_is_not_installed(machine: FakeMachine) -> None:
    machine.installed = False
    choose_engine("auto", providers=CPU)
    assert machine.asked == ["installed"], "asking the CPU imports OpenVINO"


@pytest.mark.parametrize(
    ("precision", "bfloat16", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", True, "bfloat16"),
        ("bfloat16", False, "bfloat16"),  # the engine refuses
    ],
)
@pytest.mark.usefixtures("engines")
def test_precision(machine: FakeMachine, precision: Any, bfloat16: bool, expected: str) -> None:
    machine.bfloat16 = bfloat16
    model: Any = object()
    engine: Any = open_inception_v3(model, engine="openvino", threads=3, openvino_precision=precision)
    assert type(engine) is FakeOpenVinoEngine
    assert (engine.model, engine.options) == (model, {"threads": 3, "precision": expected})


@pytest.mark.usefixtures("engines")
def test_onnxruntime_is_the_default_and_gets_its_providers(machine: FakeMachine) -> None:
    engine: Any = open_inception_v3(object(), threads=2, providers=GPU)  # type: ignore[arg-type]
    assert type(engine) is FakeEngine
    assert engine.options == {"threads": 2, "providers": GPU}
    assert machine.asked == []


def test_openvino_that_is_not_there_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for load in (
        lambda: open_inception_v3(tiny_model(tmp_path), engine="openvino"),
        openvino_inception_v3.cpu_has_bfloat16,
    ):
        with pytest.raises(ModelError, match=r"the extra `openvino` \(pip install 'model-serving\[openvino\]'\)"):
            load()


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "auto"])
def test_only_what_is_named_has_to_be_installed(machine: FakeMachine, installed: bool, name: Any) -> None:
    machine.installed = installed
    if name == "openvino" and not installed:
        with pytest.raises(ModelError, match=r"\(it is not installed\): install the extra `openvino`"):
            check_engine(name)
    else:
        check_engine(name)


def test_a_failing_import_is_a_model_error_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"libtbb\.so\.12.*or set the engine to onnxruntime"):
        openvino_inception_v3.cpu_has_bfloat16()


def test_engines_say_what_they_are(tmp_path: Path) -> None:
    engine = InceptionV3Engine(tiny_model(tmp_path))
    assert engine.description.startswith("onnxruntime 1.")
    assert engine.description.endswith(" (float32, CPUExecutionProvider)")


def test_neither_importing_nor_looking_imports_openvino() -> None:
    code = (
        "import sys, serving.engines; from serving.engines.openvino_inception_v3 import openvino_is_installed; "
        "openvino_is_installed(); print('openvino' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
