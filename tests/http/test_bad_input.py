"""Every kind of bad input gets a 4xx that says what is wrong, in the one shape, and no traceback."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import Any

import httpx
import pytest

from serving.core.tensors import NOT_FINITE
from tests.pictures import encoded, huge_png, picture

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
IRIS = ["/iris/predict", "/iris/predict/label", "/iris/predict/batched"]
INCEPTION_V3 = ["/inception_v3/predict", "/inception_v3/predict/label", "/inception_v3/predict/batched"]
ROW = [5.1, 3.5, 1.4, 0.2]
PNG = encoded(picture(), "PNG")


def body(text: str | bytes) -> dict[str, Any]:
    return {"content": text, "headers": JSON}


def raw(content: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": kind}}


BAD_ROWS: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty body": (body(""), 400, "the body is empty"),
    "malformed JSON": (body('{"data": [['), 400, "not valid JSON"),
    "random bytes": (body(bytes(range(256))), 400, "not valid JSON"),
    "missing field": (body("{}"), 400, "data: Field required"),
    "unknown field": (body('{"data": [[1,2,3,4]], "x": 1}'), 400, "x: "),
    "not an object": (body("[]"), 400, "object"),
    "no rows": (body('{"data": []}'), 400, "at least 1 item"),
    "too few columns": (body('{"data": [[1,2,3]]}'), 400, "data[0]: "),
    "too many columns": (body('{"data": [[1,2,3,4,5]]}'), 400, "data[0]: "),
    "ragged rows": (body('{"data": [[1,2,3,4],[1,2]]}'), 400, "data[1]: "),
    "NaN": (body('{"data": [[1,2,3,NaN]]}'), 400, "data[0][3]: "),
    "Infinity": (body('{"data": [[1,2,3,-Infinity]]}'), 400, "data[0][3]: "),
    "beyond float32": (body('{"data": [[1,2,3,1e39]]}'), 400, "data[0][3]: "),
    "string for a number": (body('{"data": [[1,2,3,"4"]]}'), 400, "data[0][3]: "),
    "too many rows": (body(json.dumps({"data": [ROW] * 1025})), 400, "at most 1024 items"),
    "deep nesting": (body("[" * 50_000), 400, "not valid JSON"),
    "deeper nesting": (body("[" * 100_000), 400, "data: more lists or values than 1024 rows of 4 numbers have"),
    "lone surrogate": (body('{"data": "\\ud800"}'), 400, "not valid JSON"),
    "wrong content type": (raw(b"x", "text/csv"), 415, "text/csv is not supported"),
    "text": (raw(b"x", "text/plain"), 415, "text/plain is not supported"),
    "an image": (raw(PNG), 415, "image/png is not supported"),
    "pickle": (raw(b"x", "application/vnd.bentoml+pickle"), 415, "pickle"),
    "a form": ({"data": {"data": "1"}}, 415, "x-www-form-urlencoded is not supported"),
}

BAD_IMAGES: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty body": (raw(b""), 400, "the body is empty"),
    "empty JSON": (body(""), 400, "the body is empty"),
    "empty file": ({"files": {"image": ("f", b"", "image/png")}}, 400, "empty"),
    "malformed JSON": (body('{"image": '), 400, "not valid JSON"),
    "missing field": (body("{}"), 400, "image: Field required"),
    "missing file": ({"files": {"picture": ("f", PNG, "image/png")}}, 400, "picture: unknown field"),
    "text for a file": ({"files": {"image": (None, "text")}}, 400, "not an image"),
    "a URL for a file": ({"files": {"image": (None, "http://127.0.0.1:9/cat.jpg")}}, 400, "not an image"),
    "a URL in JSON": (body('{"image": "http://127.0.0.1:9/cat.jpg"}'), 400, "not base64"),
    "a URL as body": (raw(b"http://127.0.0.1:9/cat.jpg"), 400, "not an image"),
    "two files": ({"files": [("image", ("f", PNG)), ("image", ("g", PNG))]}, 400, "image: given twice"),
    "broken form": (raw(b"x", "multipart/form-data; boundary=e"), 400, "the form cannot be read"),
    "form without boundary": (raw(b"x", "multipart/form-data"), 400, "the form cannot be read"),
    "broken base64": (body('{"image": "a"}'), 400, "not base64"),
    "base64 of nonsense": (body('{"image": "aGVsbG8="}'), 400, "not an image"),
    "not an image": (raw(b"hello!"), 400, "this is not an image"),
    "a word": (raw(b"hello"), 400, "the data is not an image: not base64"),
    "truncated": (raw(PNG[:200]), 400, "truncated or damaged"),
    "disallowed format": (raw(encoded(picture(), "TIFF"), "image/tiff"), 400, "allowed format (AVIF, BMP, GIF, JPEG"),
    "too many pixels": (raw(huge_png()), 400, "at most 50000000 are allowed"),
    "wrong content type": (raw(PNG, "text/html"), 415, "text/html is not supported"),
    "a form of text": ({"data": {"image": "x"}}, 400, "the data is not an image"),
    "pickle": (raw(b"x", "application/vnd.bentoml+pickle"), 415, "pickle"),
}

BAD_TOP_K: dict[str, tuple[dict[str, Any], int, str]] = {
    "zero": ({"params": {"top_k": "0"}, **raw(PNG)}, 400, "top_k: "),
    "not a number": ({"params": {"top_k": "x"}, **raw(PNG)}, 400, "top_k: "),
    "more than classes": ({"params": {"top_k": "1001"}, **raw(PNG)}, 400, "top_k: at most 1000, the number of classes"),
    "far too long": ({"params": {"top_k": "9" * 5000}, **raw(PNG)}, 400, "top_k: "),
    "twice": ({"params": {"top_k": "1"}, "data": {"top_k": "2"}, "files": {"image": ("f", PNG)}}, 400, "top_k is in"),
    "string in JSON": (body(json.dumps({"image": base64.b64encode(PNG).decode(), "top_k": "1"})), 400, "top_k: "),
}
CASES = [
    *((path, *case) for path in IRIS for case in BAD_ROWS.values()),
    *((path, *case) for path in INCEPTION_V3 for case in BAD_IMAGES.values()),
    *((path, *case) for path in (INCEPTION_V3[0], INCEPTION_V3[2]) for case in BAD_TOP_K.values()),
]
NAMES = [
    *(f"{path}-{name}" for path in IRIS for name in BAD_ROWS),
    *(f"{path}-{name}" for path in INCEPTION_V3 for name in BAD_IMAGES),
    *(f"{path}-top_k {name}" for path in (INCEPTION_V3[0], INCEPTION_V3[2]) for name in BAD_TOP_K),
]
assert len({path for path, *_ in CASES}) == 6


def check_shape(response: httpx.Response) -> dict[str, Any]:
    """The error in a response, which has to be exactly of the one shape."""
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert list(content) == ["error"]
    error: dict[str, Any] = content["error"]
    assert list(error) == ["code", "message", "details"]
    assert error["message"]
    assert len(error["message"]) < 300
    assert len(error["details"]) <= 10
    assert all(list(detail) == ["field", "message"] for detail in error["details"])
    return error


@pytest.mark.parametrize(("path", "request_parts", "status", "says"), CASES, ids=NAMES)
async def test_bad_input(
    client: httpx.AsyncClient,
    declared: Any,
    caplog: pytest.LogCaptureFixture,
    path: str,
    request_parts: dict[str, Any],
    status: int,
    says: str,
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = await client.post(path, **request_parts)
    assert response.status_code == status, response.text
    assert says in check_shape(response)["message"]
    assert str(status) in declared(path, "post"), "an answer that the document does not know"
    complaints = [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]
    assert {record.name for record in complaints} <= {"python_multipart.multipart"}, "which the server silences"
    (line,) = [record for record in caplog.records if record.name == "serving.prediction"]
    assert f"status={status}" in line.getMessage()


@pytest.fixture
async def declared(client: httpx.AsyncClient) -> Any:
    """The statuses that the document has for a route."""
    paths = (await client.get("/docs.json")).json()["paths"]
    return lambda path, method: paths[path][method]["responses"]


async def test_ten_details_at_most(client: httpx.AsyncClient) -> None:
    response = await client.post("/iris/predict", json={"data": [["x"] * 4] * 1000})
    error = check_shape(response)
    assert [detail["field"] for detail in error["details"]] == [
        f"data[{index // 4}][{index % 4}]" for index in range(10)
    ]
    assert error["message"].endswith("(and 3999 more)")


async def test_values_that_overflow_the_model_are_the_callers_own(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = running.models["iris"].engine
    run = engine.run

    def overflowing(tensors: Any) -> Any:
        outputs = run(tensors)
        outputs["probabilities"][tensors["features"][:, 0] > 1e30] = float("nan")
        return outputs

    monkeypatch.setattr(engine, "run", overflowing)
    for path in ("/iris/predict", "/iris/predict/label"):
        response = await client.post(path, json={"data": [ROW, [2e30, 0, 0, 0]]})
        assert response.status_code == 400, path
        assert check_shape(response)["message"] == f"data[1]: {NOT_FINITE}"


async def test_bad_requests_do_not_harm_a_concurrent_good_one(client: httpx.AsyncClient) -> None:
    good = {"/iris/predict": {"json": {"data": [ROW]}}, "/iris/predict/batched": {"json": {"data": [ROW]}}}
    expected = {path: (await client.post(path, **request)).json() for path, request in good.items()}
    bad = [client.post(path, **case[0]) for path in IRIS for case in BAD_ROWS.values()]
    fine = [client.post(path, **request) for path, request in good.items() for _ in range(20)]
    answers = await asyncio.gather(*(call for pair in zip(bad[:40], fine, strict=True) for call in pair), *bad[40:])
    paths = [path for path in good for _ in range(20)]
    for path, answer in zip(paths, answers[1:80:2], strict=True):
        assert (answer.status_code, answer.json()) == (200, expected[path])


@pytest.mark.parametrize(
    "path",
    [
        *("/nope", "/iris", "/iris/predict/x", "/inception_v3/nope", "/%00", "/static_content/é"),
        *("/iris/predict/", "/iris/predict.", "//iris/predict", "/iris//predict", "/iris%2fpredict", "/iris%2Fpredict"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_unknown_paths(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str, method: str
) -> None:
    response = await client.request(method, f"http://test{path}")
    refused = path.startswith("/static_content") and method not in ("GET", "OPTIONS")
    if path.startswith("/static_content") and method == "OPTIONS":
        assert (response.status_code, response.headers["allow"]) == (200, "GET, HEAD")
        return
    assert response.status_code == (405 if refused else 404)
    assert check_shape(response)["code"] == ("method_not_allowed" if refused else "not_found")
    assert [record for record in caplog.records if record.exc_info] == []


GET = [
    *(f"/{model}/{view}" for model in ("iris", "inception_v3") for view in ("metadata", "label", "predict/test")),
    *(f"/{model}/predict/test/label" for model in ("iris", "inception_v3")),
    "/health",
    "/metrics",
]
PAGES = ["/livez", "/healthz", "/readyz", "/docs.json", "/schema.json", "/"]
ROUTES = {
    **{path: {"POST"} for path in (*IRIS, *INCEPTION_V3)},
    **{path: {"GET", "HEAD"} for path in (*GET, *PAGES)},
}


@pytest.mark.parametrize("path", ROUTES)
async def test_other_methods_are_refused_with_those_that_are_allowed(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - ROUTES[path]:
        response = await client.request(method, path)
        assert response.status_code == 405, method
        assert set(response.headers["allow"].split(", ")) == ROUTES[path]
        assert "x-request-id" in response.headers
        if method != "HEAD":
            assert check_shape(response)["code"] == "method_not_allowed"
    for method in ROUTES[path] & {"HEAD"}:
        assert (await client.request(method, path)).status_code == 200
    response = await client.options(path)
    assert (response.status_code, response.content) == (200, b"")
    assert set(response.headers["allow"].split(", ")) == ROUTES[path]
    assert [record for record in caplog.records if record.exc_info] == []
