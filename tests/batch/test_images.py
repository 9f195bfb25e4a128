"""Rows of images: which files may be read, and that they are decoded while others are scored."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.codecs.image_files import ImageFiles, check_image_row
from serving.batch.images import ImagePredictor
from serving.batch.predictor import predictors
from serving.codecs.image_decoding import load_image
from serving.core.errors import InvalidInputError
from serving.core.ranking import image_answer
from serving.engines import open_inception_v3
from serving.settings import Settings
from serving.settings.models import ImageSettings
from serving.store.models import open_model
from tests.pictures import encoded, huge_png, picture
from tests.tiny_models import metadata

FORMATS = ["PNG", "JPEG"]
PNG = encoded(picture(), "PNG")


def path(name: str) -> str:
    return json.dumps({"image_path": name})


def url(name: str) -> str:
    return json.dumps({"image_url": name})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`images/` with what may be read, beside what may not."""
    root = tmp_path / "images"
    (root / "cats" / "more").mkdir(parents=True)
    (root / "cat.png").write_bytes(PNG)
    (root / "cats" / "more" / "ä b.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "images-too").mkdir()
    (tmp_path / "images-too" / "cat.png").write_bytes(PNG)
    (root / "link.png").symlink_to(root / "cat.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "outside").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize(
    "row",
    [
        path("cat.png"),
        path("./cats/more/ä b.png"),
        path("{root}/cat.png"),
        url("file://{root}/cat.png"),
        url("file://localhost{root}/cats/more/%C3%A4%20b.png"),
        url("FILE:{root}/cat.png"),
    ],
)
def test_a_file_below_the_root_is_read(root: Path, row: str) -> None:
    row = row.replace("{root}", str(root))
    assert check_image_row(row) is None
    assert ImageFiles(str(root), max_bytes=len(PNG)).read(row) == PNG


NOT_BELOW = "not below batch.image_root"
NOT_THERE = "the image is not there"
LINK = "cannot be read"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (path("../secret.png"), NOT_BELOW),
        (path("cats/../cat.png"), NOT_BELOW),
        (path("{root}/../secret.png"), NOT_BELOW),
        (path("{root}-too/cat.png"), NOT_BELOW),
        (path("/etc/passwd"), NOT_BELOW),
        (path("/{root}/cat.png"), NOT_BELOW),
        (path("."), NOT_BELOW),
        (path("{root}"), NOT_BELOW),
        (url("file:///etc/passwd"), NOT_BELOW),
        (url("file://{root}/%2e%2e/secret.png"), NOT_BELOW),
        (url("file://{root}/..%2fsecret.png"), NOT_BELOW),
        (path("dog.png"), NOT_THERE),
        (path("cat.png/x"), NOT_THERE),
        (path("link.png"), LINK),
        (path("out.png"), LINK),
        (path("outside/secret.png"), NOT_THERE),
        (path("pipe.png"), "not a regular file"),
        (path("cats"), "not a regular file"),
        (path("x" * 300), LINK),
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_not_read(root: Path, row: str, message: str) -> None:
    row = row.replace("{root}", str(root))
    assert check_image_row(row) is None, "it is a path"
    with pytest.raises(InvalidInputError, match=message):
        ImageFiles(str(root), max_bytes=10**6).read(row)


@pytest.mark.parametrize(
    "row",
    [
        "{}", "[]", "1", "null", "", "{", '"cat.png"', '{"image_path": 1}', '{"image_path": null}', path(""), url(""),
        '{"image_path": "a", "image_url": "file:///a"}', '{"image_path": "a", "size": 1}', path("a\0b"),
        path("x" * 5000), url("cat.png"), url("http://127.0.0.1/cat.png"), url("file://host/cat.png"),
        url("file:cat.png"), url("file:///cat.png?x=1"), url("file:///cat.png#x"), url("file:///a%00b"), url("file://[/a"),
    ],
    ids=lambda row: row[:40],
)  # fmt: skip
def test_what_names_no_file_is_told(root: Path, row: str) -> None:
    error = check_image_row(row)
    assert error
    with pytest.raises(InvalidInputError) as raised:
        ImageFiles(str(root), max_bytes=10**6).read(row)
    assert raised.value.message == error


def test_without_a_root_nothing_is_read(root: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"batch\.image_root"):
        ImageFiles("", max_bytes=10**6).read(path(str(root / "cat.png")))


def test_a_file_that_is_too_large_is_not_read(root: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"has {len(PNG)} bytes; at most {len(PNG) - 1} are allowed"):
        ImageFiles(str(root), max_bytes=len(PNG) - 1).read(path("cat.png"))


class Engine:
    """As many classes as the brightness of the picture; waits in a call until it is let go."""

    description = "of the test"

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.model: Any = type("Model", (), {"tag": "pictures:1", "metadata": metadata()})

    def warm_up(self) -> None: ...

    def predict(self, images: Any) -> Any:
        self.calls.append(len(images))
        first = images.reshape(len(images), -1)[:, 0].astype(np.float32) / 255
        classes = len(self.model.metadata.labels)
        return np.stack([first, *[(1 - first) / (classes - 1)] * (classes - 1)], axis=1)


def predictor(root: Path, engine: Any, **settings: Any) -> ImagePredictor:
    image = ImageSettings(allowed_formats=FORMATS, **settings)
    return ImagePredictor(engine, ImageFiles(str(root), max_bytes=10**6), batch_rows=4, image=image)


def test_every_row_gets_its_own_answer(root: Path) -> None:
    """Bad ones between good ones, more than a batch, in order."""
    engine = Engine()
    bad = {2: (b"no image", "not an image"), 5: (huge_png(), "pixels"), 6: (PNG[:200], "truncated or damaged")}
    rows = []
    for number in range(11):
        content = bad[number][0] if number in bad else encoded(picture(seed=number, width=40 + number), "PNG")
        (root / f"{number}.png").write_bytes(content)
        rows.append(path(f"{number}.png"))
    rows.insert(3, path("../secret.png"))
    found = predictor(root, engine, decode_threads=2).predict(rows)

    assert engine.calls == [2, 2, 4], "what cannot be decoded is not scored"
    labels = engine.model.metadata.labels
    for position, row in enumerate(rows):
        name = json.loads(row)["image_path"]
        number = int(name.split(".")[0]) if name[0].isdigit() else None
        if number is None or number in bad:
            expected = NOT_BELOW if number is None else bad[number][1]
            assert expected in (found.errors[position] or "")
            assert found.texts[position] is found.labels[position] is None
            continue
        pixel = load_image((root / name).read_bytes(), formats=FORMATS, max_pixels=10**6).array.flat[0] / 255
        answer = json.loads(found.texts[position] or "")
        by_label = {candidate["label"]: candidate["probability"] for candidate in answer}
        assert by_label[labels[0]] == pytest.approx(pixel, abs=1e-6)
        assert [set(candidate) for candidate in answer] == [{"label", "class_id", "probability"}] * len(answer)
        assert found.labels[position] == answer[0]["label"]
        assert found.errors[position] is None
    assert predictor(root, engine).predict([]).texts == []


def test_images_are_decoded_while_others_are_scored(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is in its first call, and only what has been decoded meanwhile lets it go."""
    decoded = 0
    enough = threading.Event()
    one_more = threading.Lock()

    def load(*arguments: Any, **options: Any) -> Any:
        nonlocal decoded
        loaded = load_image(*arguments, **options)
        with one_more:
            decoded += 1
            if decoded > 4:
                enough.set()
        return loaded

    class Waiting(Engine):
        def predict(self, images: Any) -> Any:
            assert enough.wait(60), "nothing was decoded while the engine was busy"
            return super().predict(images)

    monkeypatch.setattr("serving.batch.images.load_image", load)
    engine = Waiting()
    assert predictor(root, engine, decode_threads=1).predict([path("cat.png")] * 9).errors == [None] * 9
    assert engine.calls == [4, 4, 1]


@pytest.mark.usefixtures("model_store")
def test_rows_of_images_are_scored_as_the_settings_say(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real model, which the scorer finds by the name of the row; the answer is that of `/inception_v3/predict`."""
    monkeypatch.setenv("SERVING__BATCH__IMAGE_ROOT", str(root))
    monkeypatch.setenv("SERVING__INCEPTION_V3__THREADS", "1")
    settings = Settings()
    model = predictors(settings)["inception_v3"]()
    found = model.predict([path("cat.png"), path("dog.png")])
    assert model.tag.startswith("inception_v3:")
    assert found.errors == [None, NOT_THERE]

    stored = open_model(settings.inception_v3.tag)
    image = load_image(PNG, formats=FORMATS, max_pixels=10**6).array
    probabilities = open_inception_v3(stored, threads=1).predict(image[None])[0]
    expected = json.loads(image_answer(probabilities, stored.metadata.labels, 5))["predictions"]
    answer = json.loads(found.texts[0] or "")
    assert [candidate["class_id"] for candidate in answer] == [candidate["class_id"] for candidate in expected]
    assert [candidate["probability"] for candidate in answer] == pytest.approx(
        [candidate["probability"] for candidate in expected], abs=1e-6
    )
    assert found.labels[0] == expected[0]["label"]
