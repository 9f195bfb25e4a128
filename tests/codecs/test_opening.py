"""The codec of a model: that of its kind, or a plug-in of the entry."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.codecs.image import ImageCodec
from serving.codecs.opening import open_codec
from serving.codecs.rows import RowsCodec
from serving.codecs.tensors import TensorsCodec
from serving.core.errors import ModelError
from serving.settings.models import ModelSettings
from tests.codecs.models import read, spec, stored_model

Write = Callable[[str], str]

PLUGIN = '''
from serving.codecs.base import encode
from serving.codecs.tensors import TensorsCodec


class TwoTowers(TensorsCodec):
    """Answers one score instead of two vectors."""

    def answer(self, outputs, request):
        scores = (outputs["user"] * outputs["item"]).sum(axis=1)
        return encode({"scores": scores.tolist()})
'''


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module and gives its name; nothing of it stays."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(content: str) -> str:
        name = f"plugin_of_a_test_{len(names)}"
        (tmp_path / f"{name}.py").write_text(content)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def towers() -> Any:
    vector = (None, 2)
    return stored_model(
        kind="tensors",
        inputs=[spec("user_id", "int64", None), spec("item_id", "int64", None)],
        outputs=[spec("user", "float32", *vector), spec("item", "float32", *vector)],
    )


def test_each_kind_has_its_codec() -> None:
    image = stored_model(
        kind="image",
        inputs=[spec("x", "uint8", None, 2, 2, 3)],
        outputs=[spec("y", "float32", None)],
        image={"width": 2, "height": 2},
    )
    for stored, codec in ((stored_model(), RowsCodec), (image, ImageCodec), (towers(), TensorsCodec)):
        assert type(open_codec(stored, ModelSettings())) is codec


def test_a_plugin_overrides_what_differs(write: Write) -> None:
    codec = open_codec(towers(), ModelSettings(plugin=f"{write(PLUGIN)}:TwoTowers"))
    assert isinstance(codec, TensorsCodec)
    tensors, size = codec.tensors(read(codec, b'{"inputs": {"user_id": [1, 2], "item_id": [3, 4]}}'))
    assert (tensors["item_id"].tolist(), size) == ([3, 4], "rows=2")
    outputs = {"user": np.float32([[1, 2], [3, 4]]), "item": np.float32([[5, 6], [7, 8]])}
    assert json.loads(codec.answer(outputs, tensors)) == {"scores": [17, 53]}


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (None, "Missing", r"plugin nowhere_of_a_test:Missing cannot be imported: ModuleNotFoundError: No module"),
        (PLUGIN, "Missing", r"plugin \w+:Missing cannot be imported: AttributeError: module .* no attribute 'Missing'"),
        ("import nowhere_of_a_test", "X", r"plugin \w+:X cannot be imported: ModuleNotFoundError: No module named"),
        ("class X: pass", "X", r"plugin \w+:X is no subclass of serving\.codecs\.base\.Codec"),
        ("def X(*_): pass", "X", r"plugin \w+:X is no subclass of serving\.codecs\.base\.Codec"),
        ("X = 5", "X", r"plugin \w+:X is no subclass of serving\.codecs\.base\.Codec"),
        ("class X(", "X", r"plugin \w+:X cannot be imported: .*never closed"),
        ("1 / 0", "X", r"plugin \w+:X cannot be imported: ZeroDivisionError: division by zero"),
        (PLUGIN.replace("class TwoTowers(TensorsCodec)", "from serving.codecs.base import Codec\nclass X(Codec)"), "X",
         r"plugin \w+:X lacks methods of a codec: dump, .*; make it a subclass of RowsCodec, ImageCodec or Tensors"),
    ],
)  # fmt: skip
def test_a_plugin_that_is_none_is_said_in_one_line(write: Write, content: str | None, name: str, says: str) -> None:
    module = "nowhere_of_a_test" if content is None else write(content)
    with pytest.raises(ModelError, match=says) as caught:
        open_codec(towers(), ModelSettings(plugin=f"{module}:{name}"))
    assert "\n" not in str(caught.value)


def test_a_model_that_takes_no_images_has_no_section_of_images() -> None:
    with pytest.raises(ModelError, match="model tiny:1 is a model of rows: its entry may not have the section image"):
        open_codec(stored_model(), ModelSettings(image={"max_image_pixels": 5}))
