"""The native routes of models of every kind and task."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest
from PIL import Image

from serving.settings.models import ModelSettings
from tests.example_models import (
    WEIGHTS,
    colours,
    flats,
    flats_expected,
    lengths,
    node,
    recurrent,
    regressor,
    single,
    spec,
    stored,
    towers,
)
from tests.http.test_bad_input import check_shape
from tests.pictures import encoded, picture
from tests.served import Served

pytestmark = pytest.mark.anyio

PNG = encoded(picture(), "PNG")
RED = encoded(Image.new("RGB", (12, 9), (250, 10, 20)), "PNG")
FLAT = {"city": "Bern", "area": 50.5, "rooms": 2}
ROWS = [[1, 2, 3], [0.5, -1, 4]]
TOWERS = {"user": [[1, 2], [3, 4]], "item": [[5, 6], [7, 8]]}
VOICE = {"audio": [0.5, 1.5], "state": [[[0, 1, 2]], [[3, 4, 5]]]}


def two_classes(path: Path) -> Any:
    """Pictures, to the probabilities of dark and light."""
    nodes = [
        node("Cast", ["x"], ["float"], to=1),
        node("ReduceMean", ["float"], ["light"], axes=[1, 2, 3], keepdims=0),
        node("Div", ["light", "most"], ["of_one"]),
        node("Reshape", ["of_one", "column"], ["scores"]),
    ]
    return stored(
        path,
        "two_classes",
        nodes,
        [spec("x", "uint8", None, 4, 4, 3)],
        [spec("scores", "float32", None, 1)],
        {"most": np.float32(255), "column": np.array([-1, 1])},
        kind="image",
        task="classification",
        scores="scores",
        labels=["dark", "light"],
        image={"width": 4, "height": 4},
    )


def pairs(path: Path) -> Any:
    """The sums of the halves of `x` `[N, any]`, whose length has to be even."""
    nodes = [
        node("Reshape", ["x", "halves"], ["two"]),
        node("ReduceSum", ["two", "axis"], ["y"], keepdims=0),
    ]
    constants = {"halves": np.array([0, 2, -1]), "axis": np.array([1])}
    inputs, outputs = [spec("x", "float32", None, None)], [spec("y", "float32", None, None)]
    return stored(path, "pairs", nodes, inputs, outputs, constants, kind="tensors", task="raw")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("models")
    here, away = ModelSettings(predict_in="api"), ModelSettings()
    served = Served(
        [
            ("flats", flats(path), here),
            ("flats_away", flats(path), away),
            ("price", regressor(path), here),
            ("prices", regressor(path, outputs=2), away),
            ("single", single(path), here),
            ("towers", towers(path), away),
            ("lengths", lengths(path), away),
            ("pairs", pairs(path), away),
            ("voice", recurrent(path), away),
            ("colours", colours(path), away),
            ("two_classes", two_classes(path), here),
        ]
    )
    yield served
    served.close()


@pytest.fixture
def client(served: Served) -> httpx.AsyncClient:
    return served.client()


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "flats": ({"json": {"data": [FLAT]}}, {"prediction": [flats_expected("Bern", 50.5, 2)]}),
    "flats_away": ({"json": {"data": [list(FLAT.values())]}}, {"prediction": [flats_expected("Bern", 50.5, 2)]}),
    "price": ({"json": {"data": ROWS}}, {"prediction": (np.array(ROWS) @ WEIGHTS[:, 0]).tolist()}),
    "prices": ({"json": {"data": ROWS}}, {"prediction": (np.array(ROWS) @ WEIGHTS).tolist()}),
    "single": ({"json": {"data": ROWS}}, {"prediction": (np.array(ROWS) @ WEIGHTS[:, 0]).tolist()}),
    "towers": ({"json": {"inputs": TOWERS}}, {"outputs": {"score": [17, 53], "both": [[1, 2, 5, 6], [3, 4, 7, 8]]}}),
    "lengths": ({"json": {"inputs": {"text": [[1, 2, 6]]}}}, {"outputs": {"mean": [3]}}),
    "voice": ({"json": {"inputs": VOICE}}, {"outputs": {"level": 1, "next": [[[1, 2, 3]], [[4, 5, 6]]]}}),
}


def close(found: Any, expected: Any) -> bool:
    """Whether documents are equal but for the last digits of numbers."""
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(close(found[name], expected[name]) for name in expected)
    return bool(np.allclose(found, expected, atol=1e-6))


async def ok(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> Any:
    response = await client.request(method, path, **more)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("route", ["predict", "predict/batched"])
async def test_each_kind_is_predicted(client: httpx.AsyncClient, name: str, route: str) -> None:
    request, expected = CASES[name]
    found = await ok(client, "POST", f"/{name}/{route}", **request)
    assert close(found, expected), found


@pytest.mark.parametrize("name", [*CASES, "colours", "two_classes"])
async def test_the_sample_is_a_request_and_its_answer(client: httpx.AsyncClient, name: str) -> None:
    metadata = await ok(client, "GET", f"/{name}/metadata")
    answer = await ok(client, "GET", f"/{name}/predict/test")
    assert metadata["sample_response"] == answer
    assert await ok(client, "POST", f"/{name}/predict", json=metadata["sample_request"]) == answer


LABELLED = {"flats": ["cheap", "dear"], "colours": ["red", "green", "blue"], "two_classes": ["dark", "light"]}


@pytest.mark.parametrize("name", [*CASES, "colours", "two_classes"])
async def test_labels_are_answered_where_there_are_some(client: httpx.AsyncClient, name: str) -> None:
    labels = LABELLED.get(name.removesuffix("_away"))
    paths = [("GET", f"/{name}/label"), ("GET", f"/{name}/predict/test/label"), ("POST", f"/{name}/predict/label")]
    if labels is None:
        for method, path in paths:
            assert (await client.request(method, path)).status_code == 404
        return
    assert await ok(client, "GET", f"/{name}/label") == {str(index): each for index, each in enumerate(labels)}
    sample = (await ok(client, "GET", f"/{name}/metadata"))["sample_request"]
    label = await ok(client, "GET", f"/{name}/predict/test/label")
    assert await ok(client, "POST", f"/{name}/predict/label", json=sample) == label


async def test_a_picture_is_normalised_before_it_is_ranked(client: httpx.AsyncClient) -> None:
    for form in (
        {"content": RED, "headers": {"content-type": "image/png"}},
        {"files": {"image": ("a", RED)}},
        {"json": {"image": base64.b64encode(RED).decode()}},
    ):
        found = (await ok(client, "POST", "/colours/predict", **form))["predictions"]
        scores = (np.array([250, 10, 20]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        expected = np.exp(scores) / np.exp(scores).sum()
        assert [each["label"] for each in found] == ["red", "blue", "green"]
        assert close([each["probability"] for each in found], sorted(expected, reverse=True))


async def test_a_model_of_two_classes_names_both(client: httpx.AsyncClient) -> None:
    """At first it was asked for five."""
    white = encoded(Image.new("RGB", (4, 4), (255, 255, 255)), "PNG")
    request = {"content": white, "headers": {"content-type": "image/png"}}
    for route in ("predict", "predict/batched"):
        assert await ok(client, "POST", f"/two_classes/{route}", **request) == {
            "predictions": [
                {"label": "light", "class_id": 1, "probability": 1.0},
                {"label": "dark", "class_id": 0, "probability": 0.0},
            ]
        }
    one = await ok(client, "POST", "/two_classes/predict?top_k=1", **request)
    assert [each["label"] for each in one["predictions"]] == ["light"]
    response = await client.post("/two_classes/predict?top_k=3", **request)
    assert response.status_code == 400
    assert check_shape(response)["message"] == "top_k: at most 2, the number of classes"


@pytest.mark.parametrize("route", ["predict", "predict/batched"])
async def test_a_shape_that_the_graph_refuses_is_the_callers_own(client: httpx.AsyncClient, route: str) -> None:
    response = await client.post(f"/lengths/{route}", json={"inputs": {"text": [[1, 2], [3]]}})
    assert response.status_code == 400
    assert "not equally long" in check_shape(response)["message"]
    assert await ok(client, "POST", f"/pairs/{route}", json={"inputs": {"x": [[1, 2, 3, 4]]}}) == {
        "outputs": {"y": [[4, 6]]}
    }
    response = await client.post(f"/pairs/{route}", json={"inputs": {"x": [[1, 2, 3]]}})
    assert response.status_code == 400
    assert check_shape(response)["message"] == "the model cannot compute these values or shapes: x [1, 3]"


async def test_requests_of_one_length_share_a_call_and_others_do_not(served: Served) -> None:
    texts = [[1.0], [1.0, 3.0], [5.0], [2.0, 4.0], [1.0, 2.0, 3.0]]
    async with served.client() as client:
        found = await asyncio.gather(
            *(client.post("/lengths/predict/batched", json={"inputs": {"text": [text]}}) for text in texts)
        )
    assert [each.json()["outputs"]["mean"] for each in found] == [[np.mean(text)] for text in texts]


@pytest.mark.parametrize("name", [*CASES, "colours", "two_classes"])
async def test_the_document_is_true_of_each_model(client: httpx.AsyncClient, name: str) -> None:
    document = await ok(client, "GET", "/docs.json")

    def check(value: Any, operation: Any, status: str | None) -> None:
        content = operation["requestBody"] if status is None else operation["responses"][status]
        schema = content["content"]["application/json"]["schema"]
        jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]}).validate(value)

    paths = document["paths"]
    sample = (await ok(client, "GET", f"/{name}/metadata"))["sample_request"]
    check(sample, paths[f"/{name}/predict"]["post"], None)
    request = CASES[name][0]["json"] if name in CASES else sample
    check(request, paths[f"/{name}/predict"]["post"], None)
    for route in ("predict", "predict/batched"):
        answer = await ok(client, "POST", f"/{name}/{route}", json=request)
        check(answer, paths[f"/{name}/{route}"]["post"], "200")
    check(await ok(client, "GET", f"/{name}/metadata"), paths[f"/{name}/metadata"]["get"], "200")
    assert (f"/{name}/label" in paths) == (name.removesuffix("_away") in LABELLED)
    if f"/{name}/label" in paths:
        label = await ok(client, "POST", f"/{name}/predict/label", json=request)
        check(label, paths[f"/{name}/predict/label"]["post"], "200")
    response = await client.post(f"/{name}/predict", json={})
    check(response.json(), paths[f"/{name}/predict"]["post"], str(response.status_code))


async def test_the_document_is_valid(client: httpx.AsyncClient) -> None:
    import schemathesis  # here, as it takes a second that every process would wait

    document = await ok(client, "GET", "/docs.json")
    schemathesis.openapi.from_dict(document).validate()
    text = json.dumps(document)
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(document["components"]["schemas"])
    identifiers = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(identifiers) == len(set(identifiers))


WRONG: dict[str, tuple[Any, str]] = {
    "flats": ({"data": [FLAT | {"rooms": 2.5}]}, "data[0].rooms"),
    "flats_away": ({"data": [["Bern", 1, "2"]]}, "data[0][2]"),
    "price": ({"data": [[1, 2, "x"]]}, "data[0][2]"),
    "towers": ({"inputs": TOWERS | {"item": [[1, 2]]}}, ""),
    "voice": ({"inputs": {"audio": [1]}}, "inputs"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("route", ["predict", "predict/batched"])
async def test_what_is_wrong_is_named(client: httpx.AsyncClient, name: str, route: str) -> None:
    request, field = WRONG[name]
    response = await client.post(f"/{name}/{route}", json=request)
    assert response.status_code == 400
    fields = [detail["field"] for detail in check_shape(response)["details"]]
    assert fields == ([field] if field else [])
