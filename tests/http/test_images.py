"""Files of images through the routes and protocols: what one of them takes, all of them take."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.settings.models import ModelSettings
from tests.codecs.image_files import FIELD, FILES, SHOWN
from tests.codecs.image_mutations import mutations
from tests.example_models import colours
from tests.http.test_bad_input import check_shape
from tests.served import Served

pytestmark = pytest.mark.anyio

CASES = int(os.environ.get("IMAGE_FUZZ_CASES", "300")) // 10
ONE_FORMAT = ("JPEG", "GIF", "HEIF")
SENT = {
    **{path.name: path.read_bytes() for path in sorted(FIELD.glob("*.[jp][pn]g"))},
    **{name: FILES[name] for name in ("two_pictures.mpo", "ycck.jpg", "grey16.png", "orientation6.webp", "alpha.avif")},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("models")
    models = [("colours", colours(path), ModelSettings())]
    for kind in ONE_FORMAT:
        entry = ModelSettings.model_validate({"image": {"allowed_formats": [kind], "max_image_pixels": 2048}})
        models.append((f"only_{kind.lower()}", colours(path), entry))
    served = Served(models)
    yield served
    served.close()


@pytest.fixture
def client(served: Served) -> httpx.AsyncClient:
    return served.client()


def _requests(content: bytes) -> dict[str, dict[str, Any]]:
    text = base64.b64encode(content).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    return {
        "/colours/predict": {"content": content, "headers": {"Content-Type": "image/x-whatever"}},
        "/colours/predict?form": {"files": {"image": ("a.txt", content, "text/plain")}},
        "/colours/predict?json": {"json": {"image": text}},
        "/v1/models/colours:predict": {"json": {"instances": [{"b64": text}]}},
        "/v2/models/colours/infer": {"json": {"inputs": [tensor]}},
    }


@pytest.mark.parametrize("name", SENT)
async def test_a_file_is_taken_on_every_way(client: httpx.AsyncClient, name: str) -> None:
    for path, request in _requests(SENT[name]).items():
        response = await client.post(path.partition("?")[0], **request)
        assert response.status_code == 200, (path, response.text)


@pytest.mark.parametrize("content", [FILES["photo.jxl"], b"<svg/>", b"<html><body>502", FILES["baseline.jpg"][:400]])
async def test_what_is_refused_says_the_same_on_every_way(client: httpx.AsyncClient, content: bytes) -> None:
    reasons = set()
    for path, request in _requests(content).items():
        response = await client.post(path.partition("?")[0], **request)
        assert response.status_code == 400, (path, response.text)
        error = response.json()["error"]
        message = error if isinstance(error, str) else error["message"]
        reasons.add(message.rpartition("]: ")[2])
    assert len(reasons) == 1, reasons


@pytest.mark.parametrize("kind", ONE_FORMAT)
async def test_a_model_that_takes_no_png_answers_its_sample(client: httpx.AsyncClient, kind: str) -> None:
    name = f"only_{kind.lower()}"
    tested = await client.get(f"/{name}/predict/test")
    assert tested.status_code == 200, tested.text
    described = (await client.get(f"/{name}/metadata")).json()
    assert described["sample_response"] == tested.json()
    sent = await client.post(f"/{name}/predict", json=described["sample_request"])
    assert sent.json() == tested.json()
    refused = await client.post(f"/{name}/predict", content=FILES["rgba.png"], headers={"Content-Type": "image/png"})
    assert refused.status_code == 400
    check_shape(refused)
    message = refused.json()["error"]["message"]
    assert message.startswith(f"this is a PNG; send an image in an allowed format ({kind})")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
async def test_damaged_files_are_answered_and_so_is_the_next(client: httpx.AsyncClient, kind: str) -> None:
    for content in mutations(kind, CASES, int.from_bytes(os.urandom(4))):
        response = await client.post("/colours/predict", content=content, headers={"Content-Type": "image/jpeg"})
        assert response.status_code in (200, 400), (response.text, content.hex())
    good = FILES[next(name for name in SHOWN if name.endswith((".jpg", ".png")))]
    assert (await client.post("/colours/predict", files={"image": good})).status_code == 200
