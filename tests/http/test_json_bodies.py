"""One rule for JSON on every route: its characters, its content type, and what is no number."""

from __future__ import annotations

import base64
import codecs
import json
from typing import Any

import httpx
import pytest

from tests.pictures import encoded, picture

pytestmark = pytest.mark.anyio

ROW = [5.1, 3.5, 1.4, 0.2]
TENSOR = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": ROW}
PNG = base64.b64encode(encoded(picture(), "PNG")).decode()
FILE = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [PNG]}
ROUTES: dict[str, Any] = {
    "/iris/predict": {"data": [ROW]},
    "/iris/predict/batched": {"data": [ROW]},
    "/iris/predict/label": {"data": [ROW]},
    "/inception_v3/predict": {"image": PNG},
    "/v2/models/iris/infer": {"inputs": [TENSOR]},
    "/v2/models/inception_v3/infer": {"inputs": [FILE], "outputs": [{"name": "label"}]},
    "/v2/repository/index": {"ready": True},
    "/v1/models/iris:predict": {"instances": [ROW]},
    "/v1/models/inception_v3:predict": {"instances": [{"b64": PNG}]},
    "/v1/models/iris:classify": {"examples": [{"features": ROW}]},
}
KINDS = {
    "json": "application/json",
    "a charset": "application/json; charset=utf-8",
    "axios' charset": "application/json;charset=UTF-8",
    "latin 1": "application/json; charset=ISO-8859-1",
    "text": "text/plain; charset=utf-8",
    "text/json": "text/json",
    "curl -d": "application/x-www-form-urlencoded",
    "bytes": "application/octet-stream",
    "none": "",
}
CHARACTERS: dict[str, Any] = {
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
}


async def plain(client: httpx.AsyncClient, path: str) -> bytes:
    answer = await client.post(path, json=ROUTES[path])
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("kind", KINDS)
async def test_json_under_the_content_types_that_programs_send(client: httpx.AsyncClient, path: str, kind: str) -> None:
    headers = {"content-type": KINDS[kind]} if KINDS[kind] else {}
    answer = await client.post(path, content=json.dumps(ROUTES[path]), headers=headers)
    assert (answer.status_code, answer.content) == (200, await plain(client, path)), answer.text


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("characters", CHARACTERS)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_json_in_the_characters_that_programs_write(
    client: httpx.AsyncClient, path: str, characters: str, kind: str
) -> None:
    body = CHARACTERS[characters](json.dumps(ROUTES[path]))
    answer = await client.post(path, content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.content) == (200, await plain(client, path)), answer.text


@pytest.mark.parametrize("path", ["/iris/jobs", "/inception_v3/jobs"])
async def test_jobs_take_the_same(client: httpx.AsyncClient, path: str) -> None:
    body = json.dumps(ROUTES[path.replace("jobs", "predict")])
    for content, kind in ((codecs.BOM_UTF8 + body.encode(), "application/json"), (body.encode("utf-16"), "text/plain")):
        answer = await client.post(path, content=content, headers={"content-type": kind})
        assert answer.status_code == 202, answer.text
        assert (await client.delete(answer.headers["location"])).status_code == 200


async def test_json_before_binary_data_may_have_a_mark(client: httpx.AsyncClient) -> None:
    import numpy as np

    tensor = {key: value for key, value in TENSOR.items() if key != "data"} | {"parameters": {"binary_data_size": 16}}
    head = codecs.BOM_UTF8 + json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    content = head + np.array(ROW, "<f4").tobytes()
    answer = await client.post("/v2/models/iris/infer", content=content, headers=headers)
    assert answer.content == await plain(client, "/v2/models/iris/infer")


@pytest.mark.parametrize("path", ROUTES)
async def test_another_charset_is_refused(client: httpx.AsyncClient, path: str) -> None:
    headers = {"content-type": "application/json; charset=shift_jis"}
    answer = await client.post(path, content=json.dumps(ROUTES[path]), headers=headers)
    assert answer.status_code == 415
    assert "charset shift_jis is not supported; send UTF-8" in answer.text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "path", ["/iris/predict", "/v2/models/iris/infer", "/v1/models/iris:predict", "/v1/models/iris:classify"]
)
async def test_what_python_writes_for_no_number_is_named(client: httpx.AsyncClient, path: str, number: str) -> None:
    body = json.dumps(ROUTES[path]).replace("1.4", number)
    answer = await client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    if path == "/iris/predict":
        assert error["message"] == "data[0][2]: Input should be a finite number"
    else:
        assert "it has no NaN and no Infinity; send null where the model takes missing values" in error


DATA_URL = f"data:image/png;base64,{PNG}"
LINES = base64.encodebytes(base64.b64decode(PNG)).decode()
SAFE = base64.urlsafe_b64encode(base64.b64decode(PNG)).decode().rstrip("=")


@pytest.mark.parametrize("text", [DATA_URL, LINES, SAFE], ids=["data URL", "lines", "base64url"])
@pytest.mark.parametrize(
    "path", ["/inception_v3/predict", "/v2/models/inception_v3/infer", "/v1/models/inception_v3:predict"]
)
async def test_one_rule_for_base64(client: httpx.AsyncClient, path: str, text: str) -> None:
    body = json.dumps(ROUTES[path]).replace(json.dumps(PNG), json.dumps(text))
    answer = await client.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.content) == (200, await plain(client, path)), answer.text


async def test_a_job_with_a_data_url(client: httpx.AsyncClient) -> None:
    answer = await client.post("/inception_v3/jobs", json={"image": DATA_URL})
    assert answer.status_code == 202
    assert (await client.delete(answer.headers["location"])).status_code == 200
