"""What the standard protocols have in common: the models as they see them, and predictions without HTTP."""

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
from serving.protocols.inference import PIXELS
from serving.protocols.served_models import ServedModel, ServedModels
from tests.http.conftest import Hold
from tests.pictures import encoded, pixels

pytestmark = pytest.mark.anyio

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]], np.float32)
PICTURES = [encoded(Image.fromarray(pixels(seed=seed)), "PNG") for seed in (1, 2)]


class Request:
    """One without a time limit."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.size = "-"
        self._seconds = seconds

    def expires_in(self) -> float:
        return self._seconds


@pytest.fixture
def models(running: Any) -> ServedModels:
    return running.served_models


@pytest.fixture
def iris(models: ServedModels) -> ServedModel:
    return models.get("iris")


@pytest.fixture
def inception_v3(models: ServedModels) -> ServedModel:
    return models.get("inception_v3")


async def test_models_are_found_by_name_version_and_label(models: ServedModels, running: Any) -> None:
    assert [model.name for model in models] == ["iris", "inception_v3"]
    iris = models.get("iris")
    created = datetime.fromtimestamp(iris.version, UTC)
    assert created.isoformat(timespec="seconds") == running.iris.model.created_at
    tag_version = running.iris.model.tag.partition(":")[2]
    assert models.get("iris", version=iris.version) is iris
    assert models.get("iris", label="stable") is models.get("iris", label=tag_version) is iris
    assert models.find("iris") is models.find("iris", str(iris.version)) is models.find("iris", tag_version) is iris
    assert iris.ready


@pytest.mark.parametrize(
    "wanted",
    [{"name": "rose"}, {"name": "iris", "version": 1}, {"name": "iris", "version": 0}, {"name": "iris", "label": "x"}],
    ids=["name", "version", "zero", "label"],
)
async def test_what_is_not_served_is_not_found(models: ServedModels, wanted: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError):
        models.get(**wanted)


@pytest.mark.parametrize("version", ["1", "01", "latest", "-1", "9" * 400])
async def test_a_version_that_is_not_served_is_not_found(models: ServedModels, version: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        models.find("iris", version)
    assert len(caught.value.message) < 200


async def test_rows_are_predicted_as_the_engine_does(iris: ServedModel, running: Any) -> None:
    call = Request()
    probabilities = await iris.predict(ROWS, call)
    assert probabilities.tobytes() == running.iris.engine.predict(ROWS).tobytes()
    assert iris.most_probable(probabilities) == ["setosa", "versicolor", "virginica"]
    assert call.size == "rows=3"


async def test_files_their_base64_and_pixels_give_the_same(inception_v3: ServedModel, running: Any) -> None:
    call = Request()
    from_files = await inception_v3.predict(PICTURES, call)
    assert call.size == f"pixels={2 * 48 * 64}"
    texts = [base64.urlsafe_b64encode(PICTURES[0]).rstrip(b"="), base64.b64encode(PICTURES[1])]
    assert (await inception_v3.predict(texts, Request())).tobytes() == from_files.tobytes()
    arrays = np.stack([running.inception_v3._load(picture).array for picture in PICTURES])
    assert (await inception_v3.predict(arrays, call)).tobytes() == from_files.tobytes()
    assert call.size == f"pixels={2 * 299 * 299}"


BAD_ROWS = {
    "dtype": ROWS.astype(np.float64),
    "one dimension": ROWS[0],
    "three columns": ROWS[:, :3],
    "no rows": ROWS[:0],
    "too many rows": np.zeros((1025, 4), np.float32),
    "not a number": np.full((1, 4), np.nan, np.float32),
    "infinite": np.array([[1, 2, 3, np.inf]], np.float32),
    "strings": [b"5.1"],
}


@pytest.mark.parametrize("bad", BAD_ROWS)
async def test_bad_rows_are_refused_by_the_name_of_the_input(iris: ServedModel, bad: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^features") as caught:
        await iris.predict(BAD_ROWS[bad], Request())
    assert type(caught.value) is InvalidInputError


async def test_rows_that_overflow_in_the_model_are_named(
    iris: ServedModel, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflown = np.array([[1, 0, 0], [np.nan, 0, 0]], np.float32)
    monkeypatch.setattr(running.iris.engine, "predict", lambda _: overflown)
    with pytest.raises(InvalidInputError, match=r"^features\[1\]: .*too large"):
        await iris.predict(ROWS[:2], Request())


BAD_IMAGES = {
    "no image": [],
    "too many": [PICTURES[0]] * 33,
    "too many pixels": np.zeros((33, 299, 299, 3), np.uint8),
    "wrong size": np.zeros((1, 299, 298, 3), np.uint8),
    "no batch": np.zeros((299, 299, 3), np.uint8),
    "wrong dtype": np.zeros((1, 299, 299, 3), np.float32),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
async def test_bad_images_are_refused(inception_v3: ServedModel, bad: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^({PIXELS}|image): "):
        await inception_v3.predict(BAD_IMAGES[bad], Request())


@pytest.mark.parametrize("damaged", [b"", b"A", b"\xff\xd8nothing", PICTURES[0][:200], b"aGVsbG8="])
async def test_a_bad_image_is_named_by_its_place(inception_v3: ServedModel, damaged: bytes) -> None:
    with pytest.raises(InvalidImageError, match=r"^image\[1\]: "):
        await inception_v3.predict([PICTURES[0], damaged], Request())


def test_no_image_file_is_taken_for_base64() -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        file = encoded(Image.fromarray(pixels()), kind)
        assert image_file(file) is file
        assert image_file(base64.b64encode(file)) == file


async def test_several_images_take_as_many_places(inception_v3: ServedModel, hold: Hold) -> None:
    engine = hold("inception_v3", max_batch_rows=64)
    image = np.zeros((32, 299, 299, 3), np.uint8)
    held = [asyncio.ensure_future(inception_v3.predict(image, Request())) for _ in range(2)]
    await engine.entered()
    with pytest.raises(OverloadedError):
        await inception_v3.predict(image[:1], Request())
    engine.release(2)
    assert [len(each) for each in await asyncio.gather(*held)] == [32, 32]


async def test_predictions_are_counted(iris: ServedModel, running: Any) -> None:
    metrics = running.metrics
    iris.statistics.flush()
    before = metrics.inference_sums("iris")
    await iris.predict(ROWS, Request())
    with pytest.raises(InvalidInputError):
        await iris.predict(ROWS[:0], Request())
    iris.statistics.flush()
    after = metrics.inference_sums("iris")
    assert after.successes == before.successes + 1
    assert after.failures == before.failures + 1
    assert after.rows == before.rows + 3
    assert after.executions == before.executions + 1
    assert after.success_seconds - before.success_seconds >= after.infer_seconds - before.infer_seconds > 0
    assert after.last > before.last


async def test_predictions_are_logged_with_the_model_that_made_them(
    client: httpx.AsyncClient, running: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "serving.prediction")
    tags = {model.name: model.tag for model in running.served_models}
    rows = {"instances": ROWS.tolist()}
    given = {"name": "features", "shape": [3, 4], "datatype": "FP32", "data": ROWS.ravel().tolist()}
    for path, body in (
        ("/v1/models/iris/labels/stable:predict", rows),
        ("/v2/models/iris/infer", {"inputs": [given]}),
        (f"/v2/models/iris/versions/{running.served_models.get('iris').version}/infer", {"inputs": [given]}),
    ):
        assert (await client.post(path, json=body)).status_code == 200
    assert (await client.post("/v1/models/rose:predict", json=rows)).status_code == 404
    assert (await client.get("/v2/models/iris")).status_code == 200
    assert [(record.endpoint, record.model, record.size) for record in caplog.records] == [
        ("/v1/models/{model}/labels/{label}:predict", tags["iris"], "rows=3"),
        ("/v2/models/{model}/infer", tags["iris"], "rows=3"),
        ("/v2/models/{model}/versions/{version}/infer", tags["iris"], "rows=3"),
    ]
