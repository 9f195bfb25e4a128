"""Rows of images: which files may be read, and that they are decoded while others are scored."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.batch.predictor import Predictor, predictors
from serving.codecs.image import ImageRequest
from serving.codecs.image_files import ImageFiles, check_image_row
from serving.codecs.opening import open_codec
from serving.core.engine import Engine
from serving.core.errors import InvalidInputError
from serving.core.tensors import Tensors
from serving.placement import open_engine
from serving.settings import Settings
from serving.settings.models import ModelSettings
from serving.store.models import open_model
from tests import example_models
from tests.jobs.test_work import Counting
from tests.pictures import encoded, huge_png, picture

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


class Held(Counting):
    """Runs `before` in each call."""

    def __init__(self, engine: Engine, before: Callable[[], object] = lambda: None) -> None:
        super().__init__(engine)
        self.before = before

    def _call(self, tensors: Tensors) -> Tensors:
        self.before()
        return super()._call(tensors)


class Opened:
    """A predictor of small pictures that takes four at a time, and its engine."""

    def __init__(self, root: Path, *, decode_threads: int = 1, before: Callable[[], object] = lambda: None) -> None:
        image = {"allowed_formats": FORMATS, "decode_threads": decode_threads}
        settings = ModelSettings(image=image, batching={"max_batch_rows": 4})  # type: ignore[arg-type]
        stored = example_models.colours(root.parent)
        self.codec = open_codec(stored, settings)
        self.engine = Held(open_engine(stored, settings), before)
        self.predictor = Predictor(self.codec, self.engine, ImageFiles(str(root), max_bytes=10**6))


def test_every_row_gets_its_own_answer(root: Path) -> None:
    """Bad ones between good ones, more than a batch, in order."""
    bad = {2: (b"no image", "not an image"), 5: (huge_png(), "pixels"), 6: (PNG[:200], "truncated or damaged")}
    names = []
    for number in range(11):
        content = bad[number][0] if number in bad else encoded(picture(seed=number, width=40 + number), "PNG")
        (root / f"{number}.png").write_bytes(content)
        names.append(f"{number}.png")
    names.insert(3, "../secret.png")
    opened = Opened(root, decode_threads=2)
    found = opened.predictor.predict([path(name) for name in names])

    assert opened.engine.calls == [2, 2, 4], "what cannot be decoded is not scored"
    for position, name in enumerate(names):
        number = int(name.split(".")[0]) if name[0].isdigit() else None
        if number is None or number in bad:
            expected = NOT_BELOW if number is None else bad[number][1]
            assert expected in (found.errors[position] or "")
            assert found.predictions[position] is found.labels[position] is None
            continue
        request = ImageRequest((root / name).read_bytes(), 3)
        answer = json.loads(opened.codec.answer(opened.engine.run(opened.codec.tensors(request)[0]), request))
        row = json.loads(found.predictions[position] or "")
        assert [candidate["label"] for candidate in row] == [each["label"] for each in answer["predictions"]]
        assert [candidate["probability"] for candidate in row] == pytest.approx(
            [each["probability"] for each in answer["predictions"]], abs=1e-6
        )
        assert [set(candidate) for candidate in row] == [{"label", "class_id", "probability"}] * 3
        assert found.labels[position] == row[0]["label"]
        assert found.errors[position] is None
    assert opened.predictor.predict([]).predictions == []


def test_images_are_decoded_while_others_are_scored(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is in its first call, and only what has been decoded meanwhile lets it go."""
    decoded = 0
    enough = threading.Event()
    one_more = threading.Lock()
    opened = Opened(root, before=lambda: enough.wait(60) or pytest.fail("nothing was decoded meanwhile"))
    decode = opened.codec.tensors

    def tensors(request: Any) -> Any:
        nonlocal decoded
        found = decode(request)
        with one_more:
            decoded += 1
            if decoded > 4:
                enough.set()
        return found

    monkeypatch.setattr(opened.codec, "tensors", tensors)
    assert opened.predictor.predict([path("cat.png")] * 9).errors == [None] * 9
    assert opened.engine.calls == [4, 4, 1]


def test_no_more_images_are_decoded_than_the_next_call_takes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four of the call that the engine is in, four for the next one, and one more for one of the two threads."""
    decoded = threading.Semaphore(0)
    counted = 0
    opened = Opened(root, decode_threads=2)
    decode = opened.codec.tensors

    def tensors(request: Any) -> Any:
        found = decode(request)
        decoded.release()
        return found

    def count() -> None:
        nonlocal counted
        while counted < min(sum(opened.engine.calls) + 9, 30):
            assert decoded.acquire(timeout=60), "the images of the next call are not decoded meanwhile"
            counted += 1
        assert not decoded.acquire(timeout=0.05), "images are decoded that the next call does not take"

    monkeypatch.setattr(opened.codec, "tensors", tensors)
    opened.engine.before = count
    assert opened.predictor.predict([path("cat.png")] * 30).errors == [None] * 30
    assert counted == 30


@pytest.mark.usefixtures("model_store")
def test_rows_of_images_are_scored_as_the_settings_say(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real model, which the scorer finds by the name of the row; the answer is that of `/inception_v3/predict`."""
    monkeypatch.setenv("SERVING__BATCH__IMAGE_ROOT", str(root))
    monkeypatch.setenv("SERVING__MODELS__INCEPTION_V3__THREADS", "1")
    settings = Settings()
    model = predictors(settings)["inception_v3"]()
    found = model.predict([path("cat.png"), path("dog.png")])
    assert model.tag.startswith("inception_v3:")
    assert found.errors == [None, NOT_THERE]

    entry = settings.models["inception_v3"]
    stored = open_model(entry.tag)
    codec, request = open_codec(stored, entry), ImageRequest(PNG, 5)
    outputs = open_engine(stored, entry).run(codec.tensors(request)[0])
    expected = json.loads(codec.answer(outputs, request))["predictions"]
    answer = json.loads(found.predictions[0] or "")
    assert [candidate["class_id"] for candidate in answer] == [candidate["class_id"] for candidate in expected]
    assert [candidate["probability"] for candidate in answer] == pytest.approx(
        [candidate["probability"] for candidate in expected], abs=1e-6
    )
    assert found.labels[0] == expected[0]["label"]
