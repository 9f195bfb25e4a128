"""What the quick decoder reads is answered exactly as what the one reads that explains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from serving.bento.api import Api
from serving.core.errors import DeadlineExceededError, PayloadTooLargeError
from serving.http.exchange import Answer, Exchange
from tests.http.asgi import Answer as Sent
from tests.http.asgi import Body, Trickle, scope
from tests.http.bodies import NUMBERS, VALID_BODY, bodies, right

Explained = Callable[[], AbstractContextManager[None]]
pytestmark = pytest.mark.anyio

ROUTES = ["/iris/predict", "/iris/predict/label", "/iris/predict/batched"]
CONTENT_TYPES = [
    "application/json",
    "application/json",
    "application/json",
    None,
    "",
    "Application/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=utf-16",
    "text/plain",
    "text/json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/vnd.bentoml+pickle",
    "image/png",
]


@pytest.fixture
def explained(running: Api) -> Explained:
    """While it is open, every body of iris is read by the decoder that explains."""

    @contextmanager
    def explain() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running.models["iris"].codec, "read_fast", lambda _body: None)
            yield

    return explain


async def both(
    client: httpx.AsyncClient, explained: Explained, path: str, body: bytes, content_type: str | None
) -> tuple[Any, Any]:
    """What is answered the quick way and the other: status, body and content type."""
    headers = {"x-request-id": "the-same"} | ({} if content_type is None else {"content-type": content_type})
    quick = await client.post(path, content=body, headers=headers)
    with explained():
        slow = await client.post(path, content=body, headers=headers)
    on, off = ((each.status_code, each.content, each.headers["content-type"]) for each in (quick, slow))
    return on, off


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(ROUTES), body=bodies, content_type=st.sampled_from(CONTENT_TYPES))
@example(path=ROUTES[0], body=VALID_BODY, content_type="application/json")
@example(path=ROUTES[0], body=b'{"data": [[3e38, 3e38, -3e38, 3e38]]}', content_type="application/json")
@example(path=ROUTES[1], body=b'{"data": [[3e38, 3e38, -3e38, 3e38]]}', content_type="application/json")
async def test_both_ways_answer_byte_for_byte_the_same(
    client: httpx.AsyncClient, explained: Explained, path: str, body: bytes, content_type: str | None
) -> None:
    on, off = await both(client, explained, path, body, content_type)
    assert on == off
    assert on[0] in (200, 400, 415)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(ROUTES), body=right)
async def test_both_ways_agree_on_right_numbers_of_any_size(
    client: httpx.AsyncClient, explained: Explained, path: str, body: bytes
) -> None:
    on, off = await both(client, explained, path, body, "application/json")
    assert on == off


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("number", NUMBERS)
async def test_both_ways_agree_where_numbers_end(
    client: httpx.AsyncClient, explained: Explained, path: str, number: str
) -> None:
    body = f'{{"data": [[5.1, 3.5, 1.4, 0.2], [{number}, {number}, 1, 1]]}}'.encode()
    on, off = await both(client, explained, path, body, "application/json")
    assert on == off


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("rows", [1, 1023, 1024, 1025])
async def test_both_ways_agree_on_many_rows(
    client: httpx.AsyncClient, explained: Explained, path: str, rows: int
) -> None:
    body = b'{"data":[' + b",".join([b"[5.1,3.5,1.4,0.2]"] * rows) + b"]}"
    on, off = await both(client, explained, path, body, "application/json")
    assert on == off
    assert on[0] == (200 if rows <= 1024 else 400)


@pytest.mark.parametrize("path", ROUTES)
async def test_headers_agree_too(client: httpx.AsyncClient, explained: Explained, path: str) -> None:
    headers = {"content-type": "application/json", "x-request-id": "id"}
    quick = await client.post(path, content=VALID_BODY, headers=headers)
    with explained():
        slow = await client.post(path, content=VALID_BODY, headers=headers)
    assert dict(quick.headers) == dict(slow.headers)
    assert quick.headers["content-length"] == str(len(quick.content))


async def test_right_bodies_take_the_quick_way(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.models["iris"].codec, "_explain", lambda _body: pytest.fail("explained"))
    for path in ROUTES:
        for headers in ({"content-type": "application/json"}, {}):
            assert (await client.post(path, content=VALID_BODY, headers=headers)).status_code == 200


async def answered(running: Api, path: str, body: Any, **more: Any) -> tuple[Answer, Exchange]:
    """What the handler of a route makes of a request; raises what it raises."""
    exchange = Exchange(scope(path, **more), body, max_bytes=1000, time_limit=0.05)
    match = running.http.routes.find("POST", path)
    exchange.parameters = match.parameters
    assert match.route.handler is not None
    return await match.route.handler(exchange), exchange


@pytest.mark.parametrize("path", ROUTES)
async def test_it_notes_the_rows_and_the_model(running: Api, path: str) -> None:
    answer, exchange = await answered(running, path, Body(b'{"data": [[1,2,3,4],[1,2,3,4]]}'))
    assert (answer.status, exchange.size, exchange.model) == (200, "rows=2", running.models["iris"].tag)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_body_in_pieces_is_put_together(running: Api, path: str) -> None:
    whole, _ = await answered(running, path, Body(VALID_BODY))
    pieces, _ = await answered(running, path, Body(*(bytes([byte]) for byte in VALID_BODY), b""))
    assert (pieces.status, pieces.body) == (200, whole.body)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_body_above_the_limit_is_not_collected(running: Api, path: str) -> None:
    for more in ({}, {"headers": [("content-type", "application/json; charset=utf-8")]}):
        body = Body(*[b" " * 400] * 100)
        with pytest.raises(PayloadTooLargeError):
            await answered(running, path, body, **more)
        assert body.taken == 1200


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("chunks", [[], [VALID_BODY], [VALID_BODY[:5], VALID_BODY[5:10]]])
async def test_a_client_that_leaves_gets_no_answer(app: Starlette, path: str, chunks: list[bytes]) -> None:
    answer = Sent()
    await app(scope(path), Body(*chunks, then_leave=True), answer)
    assert answer.starts == []


@pytest.mark.parametrize("path", ROUTES)
async def test_a_body_that_never_ends_is_given_up(running: Api, path: str) -> None:
    for more in ({}, {"headers": [("content-type", "application/json; charset=utf-8")]}):
        with pytest.raises(DeadlineExceededError):
            await answered(running, path, Trickle(), **more)


INFER = "/v2/models/iris/infer"
PREDICT = "/v1/models/iris:predict"
V2_BODY = b'{"inputs": [{"name": "features", "shape": [2, 4], "datatype": "FP32", "data": [1,2,3,4,1,2,3,4]}]}'


async def test_inference_is_answered_whole_or_in_pieces_and_notes_rows_and_model(running: Api) -> None:
    iris = running.models["iris"]
    whole, exchange = await answered(running, INFER, Body(V2_BODY))
    assert (whole.status, exchange.size, exchange.model) == (200, "rows=2", iris.tag)
    path = f"/v2/models/iris/versions/{iris.version}/infer"
    pieces, _ = await answered(running, path, Body(V2_BODY[:9], V2_BODY[9:]))
    assert (pieces.status, pieces.body) == (200, whole.body)


async def test_wrong_inference_is_answered_too(client: httpx.AsyncClient) -> None:
    for path in (INFER, PREDICT):
        response = await client.post(path, content=b"nonsense")
        assert response.status_code == 400
        assert list(response.json()) == ["error"]


async def test_tensorflow_servings_rows_are_answered(running: Api) -> None:
    answer, exchange = await answered(running, PREDICT, Body(b'{"instances": [[1,2,3,4]]}'))
    assert (answer.status, exchange.size, exchange.model) == (200, "rows=1", running.models["iris"].tag)
    assert list(json.loads(answer.body)) == ["predictions"]


@pytest.mark.parametrize("path", [INFER, PREDICT])
async def test_an_inference_above_the_limit_is_not_collected(running: Api, path: str) -> None:
    body = Body(*[b" " * 600] * 100)
    with pytest.raises(PayloadTooLargeError):
        await answered(running, path, body)
    assert body.taken == 1200


@pytest.mark.parametrize("path", [INFER, PREDICT])
@pytest.mark.parametrize("chunks", [[], [V2_BODY], [V2_BODY[:5], V2_BODY[5:10]]])
async def test_a_client_that_leaves_an_inference_gets_no_answer(app: Starlette, path: str, chunks: list[bytes]) -> None:
    answer = Sent()
    await app(scope(path), Body(*chunks, then_leave=True), answer)
    assert answer.starts == []
