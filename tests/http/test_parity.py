"""The same input gives the same prediction whichever way it comes."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.bento.api import Api

pytestmark = pytest.mark.anyio

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]]


async def _json(client: httpx.AsyncClient, path: str, **request: Any) -> Any:
    response = await (client.post(path, **request) if request else client.get(path))
    assert response.status_code == 200, response.text
    return response.json()


async def test_iris_routes_agree(client: httpx.AsyncClient) -> None:
    probabilities = (await _json(client, "/iris/predict", json={"data": ROWS}))["prediction"]
    batched = (await _json(client, "/iris/predict/batched", json={"data": ROWS}))["prediction"]
    labels = (await _json(client, "/iris/predict/label", json={"data": ROWS}))["prediction"]
    names = await _json(client, "/iris/label")
    assert batched == probabilities
    assert labels == [names[str(int(np.argmax(row)))] for row in probabilities] == ["setosa", "versicolor", "virginica"]


async def test_iris_answers_are_the_engines_float32_bit_for_bit(client: httpx.AsyncClient, running: Api) -> None:
    answered = (await _json(client, "/iris/predict", json={"data": ROWS}))["prediction"]
    expected = running.models["iris"].engine.run({"features": np.array(ROWS, np.float32)})["probabilities"]
    assert np.array(answered, np.float32).tobytes() == expected.tobytes()


async def test_iris_deployment_checks_predict_the_documented_sample(client: httpx.AsyncClient) -> None:
    sample = (await _json(client, "/iris/metadata"))["sample_request"]
    assert await _json(client, "/iris/predict/test") == await _json(client, "/iris/predict", json=sample)
    assert await _json(client, "/iris/predict/test/label") == await _json(client, "/iris/predict/label", json=sample)


async def test_the_metadata_shows_a_real_request_and_its_answer(client: httpx.AsyncClient) -> None:
    for model in ("iris", "inception_v3"):
        metadata = await _json(client, f"/{model}/metadata")
        answer = await _json(client, f"/{model}/predict", json=metadata["sample_request"])
        assert answer == metadata["sample_response"]


def _picture() -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURE = _picture()
FORMS: dict[str, dict[str, Any]] = {
    "multipart": {"files": {"image": ("cat.png", PICTURE, "image/png")}},
    "raw": {"content": PICTURE, "headers": {"content-type": "image/png"}},
    "raw with the wrong subtype": {"content": PICTURE, "headers": {"content-type": "image/jpeg"}},
    "base64": {"json": {"image": base64.b64encode(PICTURE).decode()}},
    "base64url without padding": {"json": {"image": base64.urlsafe_b64encode(PICTURE).decode().rstrip("=")}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("route", ["predict", "predict/batched"])
async def test_image_forms_and_routes_agree(client: httpx.AsyncClient, route: str, form: str) -> None:
    expected = await _json(client, "/inception_v3/predict", **FORMS["raw"])
    assert await _json(client, f"/inception_v3/{route}", **FORMS[form]) == expected


@pytest.mark.parametrize("form", FORMS)
async def test_the_image_label_is_the_best_prediction(client: httpx.AsyncClient, form: str) -> None:
    best = (await _json(client, "/inception_v3/predict", **FORMS["raw"]))["predictions"][0]
    assert await _json(client, "/inception_v3/predict/label", **FORMS[form]) == {"prediction": best["label"]}


async def test_image_deployment_checks_predict_the_documented_sample(client: httpx.AsyncClient) -> None:
    sample = (await _json(client, "/inception_v3/metadata"))["sample_request"]
    for check, route in (("predict/test", "predict"), ("predict/test/label", "predict/label")):
        assert await _json(client, f"/inception_v3/{check}") == await _json(
            client, f"/inception_v3/{route}", json=sample
        )


async def test_candidates_come_best_first_with_their_own_labels(client: httpx.AsyncClient, running: Api) -> None:
    classes = len(running.models["inception_v3"].metadata.labels)
    candidates = (await _json(client, f"/inception_v3/predict?top_k={classes}", **FORMS["raw"]))["predictions"]
    probabilities = [candidate["probability"] for candidate in candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert sorted(candidate["class_id"] for candidate in candidates) == list(range(classes))
    assert all(running.models["inception_v3"].metadata.labels[item["class_id"]] == item["label"] for item in candidates)


@pytest.mark.parametrize(
    "request_with_three",
    [
        {"params": {"top_k": 3}, **FORMS["raw"]},
        {"params": {"top_k": 3}, **FORMS["multipart"]},
        {"data": {"top_k": "3"}, **FORMS["multipart"]},
        {"json": {"top_k": 3, **FORMS["base64"]["json"]}},
    ],
    ids=["query", "query beside a form", "form", "json"],
)
async def test_top_k_is_taken_from_wherever_it_stands(
    client: httpx.AsyncClient, request_with_three: dict[str, Any]
) -> None:
    five = (await _json(client, "/inception_v3/predict", **FORMS["raw"]))["predictions"]
    three = (await _json(client, "/inception_v3/predict", **request_with_three))["predictions"]
    assert len(five) == 5
    assert three == five[:3]
