"""What the standard protocols have in common: models as they find them, and predictions without a transport."""

from __future__ import annotations

import asyncio
import base64
import math
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.codecs.image_decoding import image_file
from serving.core.errors import InvalidImageError, InvalidInputError, NotFoundError, OverloadedError
from serving.core.tensors import strings
from serving.model import Model, Models
from tests.app import Hold
from tests.pictures import encoded, pixels
from tests.protocols.engine import pixels_of, probabilities_of

pytestmark = pytest.mark.anyio

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]], np.float32)
PICTURES = [encoded(Image.fromarray(pixels(seed=seed)), "PNG") for seed in (1, 2)]


class Request:
    """One without a time limit."""

    def __init__(self) -> None:
        self.size = "-"
        self.model: str | None = None

    def expires_in(self) -> float:
        return math.inf


@pytest.fixture
def models(running: Any) -> Models:
    found: Models = running.models
    return found


@pytest.fixture
def iris(models: Models) -> Model:
    return models["iris"]


@pytest.fixture
def inception_v3(models: Models) -> Model:
    return models["inception_v3"]


async def infer_files(model: Model, files: list[bytes], call: Any = None) -> Any:
    return (await model.infer({"image": strings(files)}, call or Request()))["probabilities"]


async def test_models_are_found_by_name_version_and_label(models: Models) -> None:
    assert [model.name for model in models] == ["iris", "inception_v3"]
    iris = models.find("iris")
    created = datetime.fromtimestamp(iris.version, UTC)
    assert created.isoformat(timespec="seconds") == iris.stored.created_at
    tag_version = iris.tag.partition(":")[2]
    for version in ("", "0", "-1", str(iris.version), tag_version, "stable"):
        assert models.find("iris", version) is iris
    assert models.find("iris", label="stable") is models.find("iris", label=tag_version) is iris
    assert iris.ready


@pytest.mark.parametrize(
    "wanted", [{"name": "rose"}, {"name": "iris", "version": "1"}, {"name": "iris", "label": "x"}], ids=str
)
async def test_what_is_not_served_is_not_found(models: Models, wanted: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError):
        models.find(**wanted)


@pytest.mark.parametrize("version", ["1", "01", "latest", "-2", "9" * 400])
async def test_a_version_that_is_not_served_is_not_found(models: Models, version: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        models.find("iris", version)
    assert len(caught.value.message) < 200


async def test_rows_are_predicted_as_the_engine_does(iris: Model, running: Any) -> None:
    call = Request()
    outputs = await iris.infer({"features": ROWS}, call)
    assert outputs["probabilities"].tobytes() == probabilities_of(running, ROWS).tobytes()
    assert outputs["label"].tolist() == ["setosa", "versicolor", "virginica"]
    assert (call.size, call.model) == ("rows=3", iris.tag)


async def test_files_their_base64_and_pixels_give_the_same(inception_v3: Model, running: Any) -> None:
    call = Request()
    from_files = await infer_files(inception_v3, PICTURES, call)
    assert call.size == f"pixels={2 * 48 * 64}"
    texts = [base64.urlsafe_b64encode(PICTURES[0]).rstrip(b"="), base64.b64encode(PICTURES[1])]
    assert (await infer_files(inception_v3, texts)).tobytes() == from_files.tobytes()
    arrays = pixels_of(running, *PICTURES)
    outputs = await inception_v3.infer({"pixels": arrays}, call)
    assert outputs["probabilities"].tobytes() == from_files.tobytes()
    assert call.size == f"pixels={2 * 299 * 299}"


BAD_ROWS = {
    "dtype": ROWS.astype(np.float64),
    "one dimension": ROWS[0],
    "three columns": ROWS[:, :3],
    "no rows": ROWS[:0],
    "too many rows": np.zeros((1025, 4), np.float32),
    "not a number": np.full((1, 4), np.nan, np.float32),
    "infinite": np.array([[1, 2, 3, np.inf]], np.float32),
    "strings": strings(["5.1"]),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
async def test_bad_rows_are_refused_by_the_name_of_the_input(iris: Model, bad: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^features") as caught:
        await iris.infer({"features": BAD_ROWS[bad]}, Request())
    assert type(caught.value) is InvalidInputError


async def test_rows_that_overflow_in_the_model_are_named(iris: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    overflown = np.array([[1, 0, 0], [np.nan, 0, 0]], np.float32)
    monkeypatch.setattr(iris.engine, "run", lambda _: {"probabilities": overflown})
    with pytest.raises(InvalidInputError, match=r"^features\[1\]: .*too large"):
        await iris.infer({"features": ROWS[:2]}, Request())


BAD_PIXELS = {
    "too many pixels": np.zeros((33, 299, 299, 3), np.uint8),
    "wrong size": np.zeros((1, 299, 298, 3), np.uint8),
    "no batch": np.zeros((299, 299, 3), np.uint8),
    "wrong dtype": np.zeros((1, 299, 299, 3), np.float32),
}


@pytest.mark.parametrize("bad", BAD_PIXELS)
async def test_bad_pixels_are_refused(inception_v3: Model, bad: str) -> None:
    with pytest.raises(InvalidInputError):
        await inception_v3.infer({"pixels": BAD_PIXELS[bad]}, Request())


@pytest.mark.parametrize("count", [0, 33])
async def test_a_wrong_number_of_images_is_refused(inception_v3: Model, count: int) -> None:
    with pytest.raises(InvalidInputError, match=r"^image: 1 to 32"):
        await infer_files(inception_v3, PICTURES[:1] * count)


@pytest.mark.parametrize("damaged", [b"", b"A", b"\xff\xd8nothing", PICTURES[0][:200], b"aGVsbG8="])
async def test_a_bad_image_is_named_by_its_place(inception_v3: Model, damaged: bytes) -> None:
    with pytest.raises(InvalidImageError, match=r"^image\[1\]: "):
        await infer_files(inception_v3, [PICTURES[0], damaged])


def test_no_image_file_is_taken_for_base64() -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        file = encoded(Image.fromarray(pixels()), kind)
        assert image_file(file) is file
        assert image_file(base64.b64encode(file)) == file


async def test_several_images_take_as_many_places(inception_v3: Model, hold: Hold) -> None:
    engine = hold("inception_v3", max_batch_rows=64)
    image = np.zeros((32, 299, 299, 3), np.uint8)
    held = [asyncio.ensure_future(inception_v3.infer({"pixels": image}, Request())) for _ in range(2)]
    await engine.entered()
    with pytest.raises(OverloadedError):
        await inception_v3.infer({"pixels": image[:1]}, Request())
    engine.release(2)
    assert [len(each["label"]) for each in await asyncio.gather(*held)] == [32, 32]


async def test_predictions_are_counted(iris: Model, running: Any) -> None:
    metrics = running.metrics
    iris.statistics.flush()
    before = metrics.inference_sums("iris")
    await iris.infer({"features": ROWS}, Request())
    with pytest.raises(InvalidInputError):
        await iris.infer({"features": ROWS[:0]}, Request())
    iris.statistics.flush()
    after = metrics.inference_sums("iris")
    assert after.successes == before.successes + 1
    assert after.failures == before.failures + 1
    assert after.rows == before.rows + 3
    assert after.executions == before.executions + 1
    assert after.batches[3].count == (before.batches[3].count if 3 in before.batches else 0) + 1
    assert after.success_seconds - before.success_seconds >= after.infer_seconds - before.infer_seconds > 0
    assert after.last > before.last


async def test_predictions_are_logged_with_the_model_that_made_them(
    client: httpx.AsyncClient, running: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "serving.prediction")
    tag = running.models["iris"].tag
    rows = {"instances": ROWS.tolist()}
    given = {"name": "features", "shape": [3, 4], "datatype": "FP32", "data": ROWS.ravel().tolist()}
    for path, body in (
        ("/v1/models/iris/labels/stable:predict", rows),
        ("/v2/models/iris/infer", {"inputs": [given]}),
        (f"/v2/models/iris/versions/{running.models['iris'].version}/infer", {"inputs": [given]}),
    ):
        assert (await client.post(path, json=body)).status_code == 200
    assert (await client.post("/v1/models/rose:predict", json=rows)).status_code == 404
    assert (await client.get("/v2/models/iris")).status_code == 200
    assert [(record.endpoint, record.model, record.size) for record in caplog.records] == [
        ("/v1/models/{model}/labels/{label}:predict", tag, "rows=3"),
        ("/v2/models/{model}/infer", tag, "rows=3"),
        ("/v2/models/{model}/versions/{version}/infer", tag, "rows=3"),
    ]
