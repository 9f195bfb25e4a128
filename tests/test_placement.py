"""Which engine an entry, the machine and what is installed lead to. The engines here are fakes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serving import placement
from serving.core import onnxruntime_engine, openvino_engine
from serving.core.errors import ModelError
from serving.placement import check_engine, choose_engine, open_engine
from serving.settings.models import ModelSettings
from tests.tiny_models import tiny_model

ROOT = Path(__file__).resolve().parents[1]
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
    monkeypatch.setattr(placement, "openvino_is_installed", fake.openvino_is_installed)
    monkeypatch.setattr(placement, "cpu_has_bfloat16", fake.cpu_has_bfloat16)
    return fake


class FakeEngine:
    def __init__(self, *given: Any, **options: Any) -> None:
        self.given = given
        self.options = options


class FakeOpenVinoEngine(FakeEngine):
    pass


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_engine, "OnnxRuntimeEngine", FakeEngine)
    monkeypatch.setattr(placement, "OpenVinoEngine", FakeOpenVinoEngine)


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
def test_precision(machine: FakeMachine, tmp_path: Path, precision: Any, bfloat16: bool, expected: str) -> None:
    machine.bfloat16 = bfloat16
    model = tiny_model(tmp_path)
    entry = ModelSettings(engine="openvino", threads=3, openvino_precision=precision)
    engine: Any = open_engine(model, entry)
    assert type(engine) is FakeOpenVinoEngine
    assert engine.given == (model.onnx_path, model.metadata.signature)
    assert engine.options == {"origin": model.origin, "threads": 3, "precision": expected}


@pytest.mark.usefixtures("engines")
def test_onnxruntime_is_the_default_and_gets_its_providers(machine: FakeMachine, tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    engine: Any = open_engine(model, ModelSettings(threads=2, providers=GPU))
    assert type(engine) is FakeEngine
    assert engine.given == (model.onnx_path, model.metadata.signature)
    assert engine.options == {"origin": model.origin, "threads": 2, "providers": GPU}
    assert machine.asked == []


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize(("kind", "threads"), [("rows", 1), ("tensors", 0)])
def test_threads_are_those_of_the_kind_unless_the_entry_says(tmp_path: Path, kind: Any, threads: int) -> None:
    changes = {} if kind == "rows" else {"kind": "tensors", "task": "raw"}
    engine: Any = open_engine(tiny_model(tmp_path, **changes), ModelSettings())
    assert engine.options["threads"] == threads


def test_only_onnx_is_served(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, format="tensorflow_savedmodel")
    with pytest.raises(ModelError, match="model tiny:1 is a tensorflow_savedmodel; only ONNX models are served"):
        open_engine(model, ModelSettings())


def test_openvino_that_is_not_there_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for load in (
        lambda: open_engine(tiny_model(tmp_path), ModelSettings(engine="openvino", openvino_precision="float32")),
        lambda: open_engine(tiny_model(tmp_path), ModelSettings(engine="openvino")),
        openvino_engine.cpu_has_bfloat16,
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
        openvino_engine.cpu_has_bfloat16()


def test_engines_say_what_they_are(tmp_path: Path) -> None:
    engine = open_engine(tiny_model(tmp_path), ModelSettings())
    assert engine.description.startswith("onnxruntime 1.")
    assert engine.description.endswith(" (float32, CPUExecutionProvider)")


def test_neither_importing_nor_looking_imports_openvino() -> None:
    code = (
        "import sys, serving.placement; from serving.core.openvino_engine import openvino_is_installed; "
        "openvino_is_installed(); print('openvino' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
