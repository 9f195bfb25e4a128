"""Models that nobody here made, served after `serving models add` alone: in every way what ONNX Runtime says of them.

Unmodified clients of other projects are among the ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests import packages
from tests.add.test_images import DEVIATION, EFFICIENTNET, MEAN, as_torchvision, converted, softmax
from tests.matrix.cases import Case
from tests.matrix.conftest import Place, serve
from tests.matrix.test_every_way import check
from tests.matrix.ways import BEST, WAYS, expected

pytestmark = [pytest.mark.slow, pytest.mark.packages]
NAMES = ("magika", "direction", "photos.png", "photos.jpg")


def magika(directory: Path) -> Case:
    """Google's classifier of file types, asked for a file of Python and one of Markdown."""
    file = packages.magika(directory)
    contents = Path(__file__).read_bytes(), (Path(__file__).parents[2] / "README.md").read_bytes()
    given = np.full((2, 2048), 256, np.int32)  # which its package pads with
    for row, content in enumerate(contents):
        given[row, :1024] = np.frombuffer(content[:1024], np.uint8)
    (scores,) = onnxruntime.InferenceSession(file).run(None, {"bytes": given})
    return Case(
        "magika",
        onnx.load(file),
        (),
        kind="tensors",
        task="classification",
        inputs={"bytes": given},
        outputs={"target_label": scores},
        scores="target_label",
        body={"inputs": {"bytes": given.tolist()}},
    )


def direction(directory: Path) -> Case:
    """PaddleOCR's classifier of text that stands on its head."""
    file = packages.text_direction(directory)
    model = onnx.load(file)
    given = np.random.default_rng(0).normal(size=(2, 3, 48, 96)).astype(np.float32).round(3)
    (scores,) = onnxruntime.InferenceSession(file).run(None, {"x": given})
    name = model.graph.output[0].name
    return Case(
        "direction",
        model,
        (),
        kind="tensors",
        task="classification",
        inputs={"x": given},
        outputs={name: scores},
        scores=name,
        body={"inputs": {"x": given.tolist()}},
    )


def photos(kind: str) -> Case:
    """A trained classifier of images, asked for a photo of a cat in a PNG or JPEG file."""
    content = converted(packages.read("scikit-image", "skimage/data/chelsea.png"), kind)
    (logits,) = onnxruntime.InferenceSession(EFFICIENTNET).run(None, {"pixels": as_torchvision(content)})
    numbers = [",".join(map(str, each)) for each in (MEAN, DEVIATION)]
    return Case(
        "photos",
        onnx.load(EFFICIENTNET),
        (
            *("--resize", "crop", "--shortest", "256", "--interpolation", "bicubic", "--scale", "1/255"),
            *("--mean", numbers[0], "--deviation", numbers[1]),
        ),
        kind="image",
        task="classification",
        inputs={},
        outputs={"logits": logits, "probabilities": softmax(logits[0])[None]},
        scores="logits",
        image=content,
        labels=tuple(f"class_{index}" for index in range(1000)),
    )


@pytest.fixture(scope="module")
def served(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("packages")
    cases = {"magika": magika(directory), "direction": direction(directory)}
    if EFFICIENTNET.is_file():
        cases |= {
            f"photos.{end}": replace(photos(kind), file=f"photos.{end}")
            for end, kind in (("png", "PNG"), ("jpg", "JPEG"))
        }
    with serve(cases, {}, model_store / "models" / "iris") as found:
        yield found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_a_package_says_what_onnx_runtime_says(served: Place, name: str, way: object) -> None:
    if name not in served.cases:
        pytest.skip(f"there is no {EFFICIENTNET}")
    case = served.cases[name]
    found = way(served, case)  # type: ignore[operator]
    check(found, expected(case))
    if case.kind == "image" and BEST not in found:
        # An Egyptian cat, a tabby and a tiger cat.
        assert next(iter(found.values()))[0].argsort()[::-1][:3].tolist() == [285, 281, 282]
