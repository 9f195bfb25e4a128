"""`serving models`: what a person types and reads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto

from serving.cli import main
from serving.commands import exits
from serving.settings import FILE_VARIABLE, get_settings
from serving.store.models import open_model
from tests.add.graphs import Asked, floats, graph, info, node, save

pytestmark = pytest.mark.usefixtures("bentoml_home", "configuration")


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file with one model, which `write` changes."""
    file = tmp_path / "configuration.yaml"
    write(file, "models: {wine: {}}")
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    yield file
    get_settings.cache_clear()


def write(file: Path, text: str) -> None:
    file.write_text(text)
    get_settings.cache_clear()
    open_model.cache_clear()


def classifier() -> onnx.ModelProto:
    return graph(
        [node("MatMul", ["x", "w"], ["logits"]), node("Softmax", ["logits"], ["probabilities"])],
        [floats("x", ["n", 2])],
        [floats("probabilities", ["n", 3])],
        {"w": np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]], np.float32)},
    )


@pytest.fixture
def wine(tmp_path: Path) -> str:
    return str(save(classifier(), tmp_path, "Wine-2.onnx"))


def out(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.splitlines()


def test_adding_says_what_was_decided_and_what_comes_next(
    wine: str, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["models", "add", wine, "--name", "wine", "--labels", "red,white,rosé", "--features", "a,b"]) == exits.DONE
    )
    lines = out(capsys)
    decided = {line.split()[0]: line[11:] for line in lines[: lines.index("")]}
    assert decided["graph"] == "IR 8, opset 17"
    assert decided["kind"] == "rows (one matrix of 2 columns)"
    assert decided["task"] == "classification, of probabilities (probabilities comes out of Softmax)"
    assert decided["labels"] == "red, white, rosé (--labels)"
    assert decided["batching"] == "free: rows share a call (rows give the same together as alone)"
    assert decided["saved"] == open_model("wine").tag
    # The two lines are right, and so is the curl.
    shown = "\n".join(lines[lines.index("models:") : lines.index("models:") + 2])
    assert yaml.safe_load(shown) == {"models": {"wine": {}}}
    write(configuration, shown)
    assert list(get_settings().served) == ["wine"]
    command = shlex.split(lines[-1])
    assert command[0] == "curl"
    assert command[-1] == "http://localhost:3000/wine/predict"
    assert Asked(open_model("wine")).label(json.loads(command[command.index("-d") + 1])) == ["red"]


def test_a_name_is_made_of_the_file(wine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "add", wine]) == exits.DONE
    assert open_model("wine_2").metadata.labels == ["class_0", "class_1", "class_2"]
    assert "  wine_2: {}" in out(capsys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b", "c"]', ["a", "b", "c"]),
        ("a\nb b\n\nc\n", ["a", "b b", "c"]),
        ('{"0": ["n1", "a"], "1": ["n2", "b"], "2": ["n3", "c"]}', ["a", "b", "c"]),
        ('{"2": "c", "1": "b", "0": "a"}', ["a", "b", "c"]),
    ],
)
def test_labels_in_a_file(wine: str, tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "labels").write_text(text)
    assert main(["models", "add", wine, "--labels", str(tmp_path / "labels")]) == exits.DONE
    assert open_model("wine_2").metadata.labels == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--labels", "nowhere.txt"],
            "--labels nowhere.txt: there is no such file; give a file, or names between commas",
        ),
        (["--labels", "a,,c"], "none of them empty"),
        (["--labels", "a,b"], "--labels: 2 names, and probabilities has 3 classes"),
        (["--name", "predict"], "--name predict: predict cannot be the name of a model"),
        (["--name", "Wine"], "--name Wine: small letters, digits and single underscores are allowed"),
        (["--sample", "nowhere.json"], "--sample nowhere.json: No such file"),
        (["--kind", "image"], "a model of images has one input"),
    ],
)
def test_a_mistake_is_one_line(
    wine: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str, bentoml_home: Path
) -> None:
    assert main(["models", "add", wine, *options]) == exits.FAILED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err
    assert list((bentoml_home / "models").iterdir()) == []


def test_images_are_described_by_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = graph(
        [node("ReduceMean", ["x"], ["logits"], axes=[2, 3], keepdims=0)],
        [info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [floats("logits", ["n", 3])],
    )
    options = ["--image-size", "32x24", "--scale", "1/255", "--mean", "0.5,0.5,0.5", "--deviation", "1/4,1/4,1/4"]
    options += ["--resize", "crop", "--shortest", "40", "--interpolation", "bicubic", "--channels", "BGR"]
    assert main(["models", "add", str(save(proto, tmp_path)), "--name", "pets", *options]) == exits.DONE
    image = open_model("pets").metadata.image
    assert image is not None
    assert image.model_dump() == {
        "width": 32,
        "height": 24,
        "layout": "NCHW",
        "channels": "BGR",
        "resize": "crop",
        "shortest": 40,
        "interpolation": "bicubic",
        "scale": pytest.approx(1 / 255),
        "mean": [0.5] * 3,
        "deviation": [0.25] * 3,
    }
    lines = out(capsys)
    assert "32x24 NCHW BGR, crop from 40, bicubic, scale 0.00392157, mean 0.5,0.5,0.5, deviation" in "\n".join(lines)
    assert lines[-1] == "curl -F image=@picture.jpg http://localhost:3000/pets/predict"


@pytest.mark.parametrize(
    "options",
    [["--image-size", "32"], ["--image-size", "0x2"], ["--scale", "1/0"], ["--mean", "a,b"], ["--kind", "text"]],
)
def test_wrong_usage(wine: str, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert main(["models", "add", wine, *options]) == exits.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_listing(wine: str, capsys: pytest.CaptureFixture[str], bentoml_home: Path) -> None:
    assert main(["models", "list"]) == exits.DONE
    assert "serving models add FILE" in out(capsys)[0]
    for version in ("one", "two"):
        assert main(["models", "add", wine, "--name", "wine", "--version", version]) == exits.DONE
    open_model.cache_clear()
    (bentoml_home / "models/broken/version").mkdir(parents=True)
    (bentoml_home / "models/broken/version/model.yaml").write_text("{")
    out(capsys)
    assert main(["models", "list"]) == exits.DONE
    lines = out(capsys)
    assert lines[0].split() == ["TAG", "KIND", "TASK", "CLASSES", "MADE", "SIZE", "SERVED", "AS"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["wine:two", "rows", "classification", "3"],
        ["wine:one", "rows", "classification", "3"],
    ]
    assert [line.split()[-1] for line in lines[1:]] == ["wine", "kB"]
    assert main(["models", "list", "--json"]) == exits.DONE
    assert [json.loads(line)["served_as"] for line in out(capsys)] == [["wine"], []]


def test_showing(wine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "add", wine, "--name", "wine"]) == exits.DONE
    out(capsys)
    assert main(["models", "show", "wine"]) == exits.DONE
    lines = out(capsys)
    assert "input        x float32 [N, 2]" in lines
    assert "task         classification, of probabilities (none)" in lines
    assert main(["models", "show", "wine:latest", "--json"]) == exits.DONE
    assert json.loads("\n".join(out(capsys)))["batching"] == "free"
    assert main(["models", "show", "beer"]) == exits.FAILED
    assert "beer is not in the model store" in capsys.readouterr().err


def test_removing_asks(wine: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("one", "two"):
        assert main(["models", "add", wine, "--name", "wine", "--version", version]) == exits.DONE
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "n"

    monkeypatch.setattr("click.termui.visible_prompt_func", answer)
    open_model.cache_clear()
    assert main(["models", "remove", "wine"]) == exits.INTERRUPTED
    assert "Remove wine:two" in asked[0]
    assert "which wine in configuration.yaml serves" in asked[0]
    assert open_model("wine").tag == "wine:two"
    assert main(["models", "remove", "wine", "--yes"]) == exits.DONE
    open_model.cache_clear()
    assert open_model("wine").tag == "wine:one"
    assert main(["models", "remove", "wine:two", "--yes"]) == exits.FAILED
    assert "wine:two is not in the model store" in capsys.readouterr().err


def test_checking(wine: str, configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "check"]) == exits.FAILED
    assert "wine:latest is not in the model store" in out(capsys)[1]
    for name in ("wine", "beer"):
        assert main(["models", "add", wine, "--name", name]) == exits.DONE
    write(configuration, "models: {wine: {}, beer: {}}")
    out(capsys)
    assert main(["models", "check"]) == exits.DONE
    assert [line.split()[0] for line in out(capsys)] == ["MODEL", "wine", "beer"]
    open_model.cache_clear()
    path = open_model("beer").onnx_path
    path.write_bytes(path.read_bytes() + b"\0")
    assert main(["models", "check"]) == exits.FAILED
    lines = out(capsys)
    assert "ok, onnxruntime" in lines[1]
    assert "failed: model beer:" in lines[2]
    assert "model.onnx has changed since then" in lines[2]
    assert main(["models", "check", "wine"]) == exits.DONE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "sample.tensors").unlink(), "the file sample.tensors is missing"),
        (lambda path: (path / "more.bin").write_bytes(b"1"), "the file more.bin has been put there since"),
    ],
    ids=["missing", "new"],
)
def test_files_that_are_not_those_that_were_stored(
    wine: str, capsys: pytest.CaptureFixture[str], change: object, message: str
) -> None:
    assert main(["models", "add", wine, "--name", "wine"]) == exits.DONE
    out(capsys)
    change(open_model("wine").path)  # type: ignore[operator]
    assert main(["models", "check", "wine"]) == exits.FAILED
    assert message in out(capsys)[1]


def test_a_broken_configuration_is_one_line(wine: str, configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "add", wine, "--name", "wine"]) == exits.DONE
    write(configuration, "nonsense: 1")
    out(capsys)
    assert main(["models", "check"]) == exits.FAILED
    assert "configuration: nonsense" in capsys.readouterr().err
    # What is in the store is listed all the same.
    assert main(["models", "list"]) == exits.DONE
    assert "wine:" in capsys.readouterr().out
