"""The same input gives the same prediction through the service's own routes and every protocol over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.http import tensors
from tests.pictures import encoded

pytestmark = pytest.mark.anyio

numbers = st.floats(-1e6, 1e6, width=32) | st.floats(0, 8, width=32)
rows = st.lists(st.tuples(numbers, numbers, numbers, numbers).map(list), min_size=1, max_size=5)
pictures = st.builds(
    lambda width, height, seed: encoded(
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)), "PNG"
    ),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 99),
)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def post(client: httpx.AsyncClient, path: str, **more: Any) -> Any:
    response = await client.post(path, **more)
    assert response.status_code == 200, response.text
    return response.json()


def float32(values: Any) -> bytes:
    return np.array(values, np.float32).tobytes()


@few
@given(data=rows)
async def test_iris(client: httpx.AsyncClient, data: list[list[float]]) -> None:
    native = (await post(client, "/iris/predict", json={"data": data}))["prediction"]
    labels = (await post(client, "/iris/predict/label", json={"data": data}))["prediction"]
    tf = "/v1/models/iris"
    examples = {"examples": [{"features": row} for row in data]}
    scores = (await post(client, f"{tf}:classify", json=examples))["results"]
    answers = {
        "TensorFlow Serving, rows": (await post(client, f"{tf}:predict", json={"instances": data}))["predictions"],
        "TensorFlow Serving, columns": (await post(client, f"{tf}:predict", json={"inputs": data}))["outputs"],
        "TensorFlow Serving, classify": [[score for _, score in row] for row in scores],
    }
    both = {"parameters": {"binary_data_output": True}}
    for name, request in {
        "V2, JSON": {"json": tensors.infer_body(tensors.rows_input(data))},
        "V2, binary": tensors.binary_rows(data, **both),
        "V2, JSON in and binary out": {"json": tensors.infer_body(tensors.rows_input(data), **both)},
    }.items():
        answer = tensors.read_answer(await client.post(tensors.IRIS, **request))
        assert answer["label"] == labels, name
        answers[name] = answer["probabilities"]
    assert {name: float32(answer) for name, answer in answers.items()} == dict.fromkeys(answers, float32(native))


@settings(few, max_examples=6)
@given(file=pictures)
async def test_inception_v3(client: httpx.AsyncClient, file: bytes) -> None:
    as_file = {"content": file, "headers": {"content-type": "image/png"}}
    native = (await post(client, "/inception_v3/predict?top_k=1000", **as_file))["predictions"]
    probabilities = [found["probability"] for found in sorted(native, key=lambda found: found["class_id"])]
    tf, text = "/v1/models/inception_v3", tensors.base64url(file)
    request = {"signature_name": "probabilities", "instances": [text]}
    answers = {"TensorFlow Serving": (await post(client, f"{tf}:predict", json=request))["predictions"][0]}
    labels = (await post(client, f"{tf}:predict", json={"inputs": [{"b64": text}]}))["outputs"]
    data = tensors.binary(file)
    binary = tensors.images_input(file) | {"parameters": {"binary_data_size": len(data)}}
    del binary["data"]
    for name, sent in {
        "V2, JSON": {"json": tensors.infer_body(tensors.images_input(file))},
        "V2, binary": tensors.with_binary(tensors.infer_body(binary), data),
    }.items():
        answer = tensors.read_answer(await client.post(tensors.INCEPTION_V3, **sent))
        answers[name] = answer["probabilities"][0]
        labels += answer["label"]
    assert set(labels) == {native[0]["label"]}
    assert {name: float32(answer) for name, answer in answers.items()} == dict.fromkeys(answers, float32(probabilities))
