"""The same input gives the same prediction over gRPC as over HTTP, whichever protocol."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.grpc.conftest import Ask
from tests.grpc.requests import ClassificationRequest, infer_images, infer_rows, predict_images, predict_rows

pytestmark = pytest.mark.anyio


def float32(response: Any) -> list[list[float]]:
    """The first output of a ModelInferResponse."""
    output = response.outputs[0]
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(output.shape).tolist()
    return np.array(output.contents.fp32_contents, np.float32).reshape(output.shape).tolist()


def tensor(response: Any) -> list[list[float]]:
    proto = response.outputs["probabilities"]
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    return np.array(proto.float_val, np.float32).reshape(shape).tolist()


@pytest.mark.parametrize("seed", range(8))
async def test_rows(ask: Ask, client: httpx.AsyncClient, seed: int) -> None:
    chance = np.random.default_rng(seed)
    scale = 10.0 ** chance.integers(-3, 8)
    rows = (chance.normal(size=(int(chance.integers(1, 40)), 4)) * scale).astype(np.float32)
    native = await client.post("/iris/predict", json={"data": rows.tolist()})
    expected = np.array(native.json()["prediction"], np.float32).tolist()
    labels = (await client.post("/iris/predict/label", json={"data": rows.tolist()})).json()["prediction"]
    for raw in (True, False):
        response = await ask("ModelInfer", infer_rows(rows, raw=raw))
        assert float32(response) == expected
        assert tensor(await ask("Predict", predict_rows(rows, content=raw))) == expected
    typed = await ask("ModelInfer", infer_rows(rows, raw=False))
    assert [label.decode() for label in typed.outputs[1].contents.bytes_contents] == labels
    request = ClassificationRequest()
    request.model_spec.name = "iris"
    for row in rows.tolist():
        request.input.example_list.examples.add().features.feature["features"].float_list.value.extend(row)
    classified = (await ask("Classify", request)).result.classifications
    assert [[each.score for each in row.classes] for row in classified] == expected


@pytest.mark.parametrize(("size", "kind"), [((40, 60), "PNG"), ((300, 200), "JPEG"), ((299, 299), "BMP")])
async def test_images(ask: Ask, client: httpx.AsyncClient, size: tuple[int, int], kind: str) -> None:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    image = file.getvalue()
    answer = await client.post("/inception_v3/predict", files={"image": image}, data={"top_k": "1000"})
    ranked = sorted(answer.json()["predictions"], key=lambda each: each["class_id"])
    expected = np.array([[each["probability"] for each in ranked]], np.float32).tolist()
    label = (await client.post("/inception_v3/predict/label", files={"image": image})).json()["prediction"]
    for each in (image, base64.b64encode(image), base64.urlsafe_b64encode(image).rstrip(b"=")):
        assert float32(await ask("ModelInfer", infer_images(each))) == expected
        assert tensor(await ask("Predict", predict_images(each, signature="probabilities"))) == expected
    assert list((await ask("Predict", predict_images(image))).outputs["output_0"].string_val) == [label.encode()]
    request = ClassificationRequest()
    request.model_spec.name = "inception_v3"
    request.input.example_list.examples.add().features.feature["image"].bytes_list.value.append(image)
    (classified,) = (await ask("Classify", request)).result.classifications
    assert [each.score for each in classified.classes] == expected[0]
