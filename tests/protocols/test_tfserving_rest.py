"""TensorFlow Serving's REST API as its documentation has it: https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.http.tensors import JPEG, PNG, ROWS, base64url
from tests.protocols.engine import probabilities_of
from tests.protocols.test_open_inference_rest import error_of

pytestmark = pytest.mark.anyio
IRIS = "/v1/models/iris"
IMAGES = "/v1/models/inception_v3"


def b64(file: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(file).decode()}


async def ask(client: httpx.AsyncClient, path: str, document: Any = None) -> Any:
    # As curl sends it: TensorFlow Serving does not look at the content type.
    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = None if document is None else json.dumps(document).encode()
    response = await (client.get(path) if content is None else client.post(path, content=content, headers=headers))
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def version(running: Any) -> int:
    return running.models.find("iris").version


# Model status API


async def test_status(client: httpx.AsyncClient, running: Any, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    tag = running.models.find("iris").tag.partition(":")[2]
    for path in ("", f"/versions/{version}", "/labels/stable", f"/labels/{tag}"):
        assert await ask(client, f"{IRIS}{path}") == {"model_version_status": [status], "name": "iris", "ready": True}
    monkeypatch.setattr(running.process.drain, "started", True)
    loading = {"model_version_status": [status | {"state": "LOADING"}], "name": "iris", "ready": False}
    assert await ask(client, IRIS) == loading


async def test_models_are_listed_as_kserve_does(client: httpx.AsyncClient) -> None:
    assert await ask(client, "/v1/models") == {"models": ["iris", "inception_v3"]}


@pytest.mark.parametrize("latest", [0, -1])
async def test_the_latest_version_by_number(client: httpx.AsyncClient, latest: int) -> None:
    """OpenVINO Model Server's client asks for version 0."""
    for path in ("", "/metadata"):
        assert await ask(client, f"{IRIS}/versions/{latest}{path}") == await ask(client, f"{IRIS}{path}")
    rows = {"instances": ROWS}
    assert await ask(client, f"{IRIS}/versions/{latest}:predict", rows) == await ask(client, f"{IRIS}:predict", rows)


async def test_a_number_among_the_labels_is_a_version(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    iris = running.models["iris"]
    assert (await client.get(f"{IRIS}/versions/3")).status_code == 404
    monkeypatch.setattr(iris, "version_labels", (*iris.version_labels, "3"))
    assert await ask(client, f"{IRIS}/versions/3") == await ask(client, IRIS)


async def test_null_and_a_byte_order_mark_do_not_matter(client: httpx.AsyncClient) -> None:
    expected = await ask(client, f"{IRIS}:predict", {"instances": ROWS})
    nulls = {"instances": ROWS, "inputs": None, "signature_name": None}
    assert await ask(client, f"{IRIS}:predict", nulls) == expected
    marked = b"\xef\xbb\xbf" + json.dumps({"instances": ROWS}).encode()
    assert (await client.post(f"{IRIS}:predict", content=marked)).json() == expected
    examples = {"examples": [{"features": ROWS[0]}]}
    assert await ask(client, f"{IRIS}:classify", examples | {"context": None}) == await ask(
        client, f"{IRIS}:classify", examples
    )


# Model metadata API


async def test_metadata(client: httpx.AsyncClient, version: int) -> None:
    found = await ask(client, f"{IRIS}/metadata")
    assert found["model_spec"] == {"name": "iris", "signature_name": "", "version": str(version)}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"] == {
        "inputs": {
            "features": {
                "dtype": "DT_FLOAT",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}], "unknown_rank": False},
                "name": "serving_default_features:0",
            }
        },
        "outputs": {
            "probabilities": {
                "dtype": "DT_FLOAT",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}], "unknown_rank": False},
                "name": "serving_default_probabilities:0",
            }
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    for path in (f"/versions/{version}", "/labels/stable"):
        assert await ask(client, f"{IRIS}{path}/metadata") == found
    images = (await ask(client, f"{IMAGES}/metadata"))["metadata"]["signature_def"]["signature_def"]
    assert {name: each["method_name"].rpartition("/")[2] for name, each in images.items()} == {
        "serving_default": "predict",
        "probabilities": "predict",
        "classify": "classify",
    }
    assert images["serving_default"]["inputs"]["image"]["dtype"] == "DT_STRING"
    assert list(images["serving_default"]["outputs"]) == ["output_0"], "as a SavedModel calls its only output"


# Predict API

ROW_FORMATS = {
    "rows": {"instances": ROWS},
    "objects": {"instances": [{"features": row} for row in ROWS]},
    "with a signature": {"signature_name": "serving_default", "instances": ROWS},
    "with an empty signature": {"signature_name": "", "instances": ROWS},
}
COLUMN_FORMATS = {"tensor": {"inputs": ROWS}, "named": {"inputs": {"features": ROWS}}}


@pytest.mark.parametrize("form", ROW_FORMATS)
async def test_predict_in_row_format(client: httpx.AsyncClient, running: Any, version: int, form: str) -> None:
    expected = probabilities_of(running, ROWS)
    for path in ("", f"/versions/{version}", "/labels/stable"):
        answer = await ask(client, f"{IRIS}{path}:predict", ROW_FORMATS[form])
        assert list(answer) == ["predictions"]
        assert np.array(answer["predictions"], np.float32).tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", COLUMN_FORMATS)
async def test_predict_in_column_format(client: httpx.AsyncClient, form: str) -> None:
    rows = await ask(client, f"{IRIS}:predict", {"instances": ROWS})
    assert await ask(client, f"{IRIS}:predict", COLUMN_FORMATS[form]) == {"outputs": rows["predictions"]}


TEXT = base64url(PNG)
IMAGE_FORMATS: dict[str, Any] = {
    "base64url text, as the SavedModel's": {"instances": [TEXT, base64url(JPEG)]},
    "binary values": {"instances": [b64(PNG), b64(JPEG)]},
    "binary values of text": {"instances": [b64(TEXT.encode()), b64(JPEG)]},
    "objects": {"instances": [{"image": b64(PNG)}, {"image": base64url(JPEG)}]},
    "column": {"inputs": [TEXT, b64(JPEG)]},
    "named column": {"inputs": {"image": [b64(PNG), b64(JPEG)]}},
}


@pytest.mark.parametrize("form", IMAGE_FORMATS)
async def test_predict_images(client: httpx.AsyncClient, running: Any, form: str) -> None:
    native = [
        (await client.post("/inception_v3/predict/label", content=file, headers={"content-type": "image/png"})).json()
        for file in (PNG, JPEG)
    ]
    request = IMAGE_FORMATS[form]
    key = "predictions" if "instances" in request else "outputs"
    assert await ask(client, f"{IMAGES}:predict", request) == {key: [each["prediction"] for each in native]}
    rows = (await ask(client, f"{IMAGES}:predict", request | {"signature_name": "probabilities"}))[key]
    assert [running.models["inception_v3"].metadata.labels[int(np.argmax(row))] for row in rows] == [
        each["prediction"] for each in native
    ]
    assert [len(row) for row in rows] == [1000, 1000]


# Classify and Regress API

COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
EXAMPLES: dict[str, Any] = {
    "one feature": {"examples": [{"features": row} for row in ROWS]},
    "features by name": {"examples": [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]},
    "lists": {"examples": [{name: [value] for name, value in zip(COLUMNS, row, strict=True)} for row in ROWS]},
    "with a signature": {"signature_name": "classify", "examples": [{"features": row} for row in ROWS]},
}


@pytest.mark.parametrize("form", EXAMPLES)
async def test_classify(client: httpx.AsyncClient, form: str) -> None:
    rows = (await ask(client, f"{IRIS}:predict", {"instances": ROWS}))["predictions"]
    expected = [[[name, score] for name, score in zip(LABELS, row, strict=True)] for row in rows]
    assert await ask(client, f"{IRIS}:classify", EXAMPLES[form]) == {"results": expected}


LABELS = ["setosa", "versicolor", "virginica"]


async def test_classify_with_a_context(client: httpx.AsyncClient) -> None:
    row = dict(zip(COLUMNS, ROWS[0], strict=True))
    shared = {name: row.pop(name) for name in COLUMNS[:2]}
    answer = await ask(client, f"{IRIS}/labels/stable:classify", {"context": shared, "examples": [row, row]})
    first = (await ask(client, f"{IRIS}:classify", {"examples": [{"features": ROWS[0]}]}))["results"]
    assert answer == {"results": first * 2}


async def test_classify_images(client: httpx.AsyncClient) -> None:
    (results,) = (await ask(client, f"{IMAGES}:classify", {"examples": [{"image": b64(PNG)}]}))["results"]
    best = (await ask(client, f"{IMAGES}:predict", {"instances": [b64(PNG)]}))["predictions"]
    assert len(results) == 1000
    assert max(results, key=lambda pair: pair[1])[0] == best[0]


# Errors

NOT_FOUND = {
    "/v1/models/half": "Servable not found for request: Latest(half)",
    "/v1/models/half/metadata": "Servable not found for request: Latest(half)",
    "/v1/models/iris/versions/1": "Servable not found for request: Specific(iris, 1)",
    "/v1/models/iris/versions/-2": "Servable not found for request: Specific(iris, -2)",
    "/v1/models/iris/versions/stable": "Servable not found for request: Specific(iris, stable)",
    "/v1/models/iris/versions/99999999999999999999/metadata": (
        "Servable not found for request: Specific(iris, 99999999999999999999)"
    ),
}


@pytest.mark.parametrize("path", NOT_FOUND)
async def test_unknown_models_and_versions(client: httpx.AsyncClient, path: str) -> None:
    assert error_of(await client.get(path), 404) == NOT_FOUND[path]
    if "metadata" not in path:
        assert error_of(await client.post(f"{path}:predict", json={"instances": ROWS}), 404) == NOT_FOUND[path]


async def test_unknown_labels(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get(f"{IRIS}/labels/canary"),
        await client.post(f"{IRIS}/labels/canary:predict", json={"instances": ROWS}),
    ):
        assert error_of(response, 400) == "Unrecognized servable version label: canary"


BAD: dict[str, tuple[str, Any]] = {
    "no JSON": ("iris:predict", b"nonsense"),
    "empty": ("iris:predict", b""),
    "an array": ("iris:predict", []),
    "neither form": ("iris:predict", {}),
    "both forms": ("iris:predict", {"instances": ROWS, "inputs": ROWS}),
    "signature that is a number": ("iris:predict", {"signature_name": 1, "instances": ROWS}),
    "unknown signature": ("iris:predict", {"signature_name": "x", "instances": ROWS}),
    "signature of another method": ("iris:predict", {"signature_name": "classify", "instances": ROWS}),
    "no rows": ("iris:predict", {"instances": []}),
    "a number": ("iris:predict", {"instances": 1.0}),
    "numbers": ("iris:predict", {"instances": [1.0, 2.0]}),
    "three columns": ("iris:predict", {"instances": [[1, 2, 3]]}),
    "ragged rows": ("iris:predict", {"instances": [[1, 2, 3, 4], [1, 2]]}),
    "three dimensions": ("iris:predict", {"instances": [ROWS]}),
    "strings": ("iris:predict", {"instances": [["a", "b", "c", "d"]]}),
    "NaN": ("iris:predict", b'{"instances": [[NaN, 1, 2, 3]]}'),
    "beyond float32": ("iris:predict", {"instances": [[3.5e38, 1, 2, 3]]}),
    "unknown input": ("iris:predict", {"instances": [{"x": [1, 2, 3, 4]}]}),
    "an input too many": ("iris:predict", {"instances": [{"features": [1, 2, 3, 4], "x": [1]}]}),
    "objects and rows": ("iris:predict", {"instances": [{"features": [1, 2, 3, 4]}, [1, 2, 3, 4]]}),
    "unknown column": ("iris:predict", {"inputs": {"x": ROWS}}),
    "too many rows": ("iris:predict", {"instances": [[1, 2, 3, 4]] * 1025}),
    "far too many rows": ("iris:predict", {"instances": [[1, 2, 3, 4]] * 100_000}),
    "nested deeply": ("iris:predict", b'{"instances": ' + b"[" * 100_000),
    "no image": ("inception_v3:predict", {"instances": ["nonsense!"]}),
    "an empty image": ("inception_v3:predict", {"instances": [""]}),
    "broken base64": ("inception_v3:predict", {"instances": [{"b64": "A"}]}),
    "base64 of nothing": ("inception_v3:predict", {"instances": [{"b64": ""}]}),
    "base64 that is a number": ("inception_v3:predict", {"instances": [{"b64": 1}]}),
    "half a surrogate": ("inception_v3:predict", {"instances": ["\ud800"]}),
    "numbers for images": ("inception_v3:predict", {"instances": [1]}),
    "33 images": ("inception_v3:predict", {"instances": [TEXT] * 33}),
    "many images": ("inception_v3:predict", {"instances": [{"b64": ""}] * 100_000}),
    "one image and no list": ("inception_v3:predict", {"inputs": {"b64": TEXT}}),
    "no examples": ("iris:classify", {"examples": []}),
    "examples of another type": ("iris:classify", {"examples": [1]}),
    "missing feature": ("iris:classify", {"examples": [{COLUMNS[0]: 1.0}]}),
    "empty example": ("iris:classify", {"examples": [{}]}),
    "unknown feature": ("iris:classify", {"examples": [{"features": ROWS[0], "x": 1}]}),
    "feature that is text": ("iris:classify", {"examples": [{"features": ["a"] * 4}]}),
    "feature that is too short": ("iris:classify", {"examples": [{"features": [1, 2, 3]}]}),
    "context that is in an example too": (
        "iris:classify",
        {"context": {"features": ROWS[0]}, "examples": [{"features": ROWS[0]}]},
    ),
    "signature of predict": ("iris:classify", {"signature_name": "probabilities", "examples": [{"features": ROWS[0]}]}),
    "many examples": ("iris:classify", {"examples": [{"features": ROWS[0]}] * 1025}),
    "two images in a feature": ("inception_v3:classify", {"examples": [{"image": [TEXT, TEXT]}]}),
}


@pytest.mark.parametrize("bad", BAD)
async def test_bad_requests(client: httpx.AsyncClient, bad: str) -> None:
    method, body = BAD[bad]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    error_of(await client.post(f"/v1/models/{method}", content=content), 400)


async def test_the_example_of_the_documentation(client: httpx.AsyncClient) -> None:
    """Its error, word for word."""
    response = await client.post("/v1/models/half:predict", content=b'{"instances": [1.0,5.0]}')
    assert response.status_code == 404
    assert response.json() == {"error": "Servable not found for request: Latest(half)"}
