"""The data plane answers what it answers exactly as the declared methods do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serving.http.dataplane import DataPlane
from serving.http.request import SCOPE_KEY, RequestRecord, current_request
from tests.http.asgi import Answer, Body, ask, scope
from tests.http.bodies import NUMBERS, VALID_BODY, bodies, right

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


async def both(
    client: httpx.AsyncClient, without_data_plane: httpx.AsyncClient, path: str, body: bytes, content_type: str | None
) -> tuple[Any, Any]:
    """What the two answer: status, body and content type."""
    headers = {"x-request-id": "the-same"} | ({} if content_type is None else {"content-type": content_type})
    answers = [await each.post(path, content=body, headers=headers) for each in (client, without_data_plane)]
    on, off = ((each.status_code, each.content, each.headers["content-type"]) for each in answers)
    return on, off


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(ROUTES), body=bodies, content_type=st.sampled_from(CONTENT_TYPES))
@example(path=ROUTES[0], body=VALID_BODY, content_type="application/json")
@example(path=ROUTES[0], body=b'{"data": [[3e38, 3e38, -3e38, 3e38]]}', content_type="application/json")
@example(path=ROUTES[1], body=b'{"data": [[3e38, 3e38, -3e38, 3e38]]}', content_type="application/json")
async def test_on_and_off_answer_byte_for_byte_the_same(
    client: httpx.AsyncClient, without_data_plane: httpx.AsyncClient, path: str, body: bytes, content_type: str | None
) -> None:
    on, off = await both(client, without_data_plane, path, body, content_type)
    assert on == off
    assert on[0] in (200, 400, 415)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(ROUTES), body=right)
async def test_on_and_off_agree_on_right_numbers_of_any_size(
    client: httpx.AsyncClient, without_data_plane: httpx.AsyncClient, path: str, body: bytes
) -> None:
    on, off = await both(client, without_data_plane, path, body, "application/json")
    assert on == off


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("number", NUMBERS)
async def test_on_and_off_agree_where_numbers_end(
    client: httpx.AsyncClient, without_data_plane: httpx.AsyncClient, path: str, number: str
) -> None:
    body = f'{{"data": [[5.1, 3.5, 1.4, 0.2], [{number}, {number}, 1, 1]]}}'.encode()
    on, off = await both(client, without_data_plane, path, body, "application/json")
    assert on == off


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("rows", [1, 1023, 1024, 1025])
async def test_on_and_off_agree_on_many_rows(
    client: httpx.AsyncClient, without_data_plane: httpx.AsyncClient, path: str, rows: int
) -> None:
    body = b'{"data":[' + b",".join([b"[5.1,3.5,1.4,0.2]"] * rows) + b"]}"
    on, off = await both(client, without_data_plane, path, body, "application/json")
    assert on == off
    assert on[0] == (200 if rows <= 1024 else 400)


@pytest.mark.parametrize("path", ROUTES)
async def test_headers_agree_too(client: httpx.AsyncClient, without_data_plane: httpx.AsyncClient, path: str) -> None:
    answers = [
        await each.post(path, content=VALID_BODY, headers={"content-type": "application/json", "x-request-id": "id"})
        for each in (client, without_data_plane)
    ]
    on, off = (dict(each.headers) for each in answers)
    assert on == off
    assert on["content-length"] == str(len(answers[0].content))


async def passed_on(_scope: Any, receive: Any, send: Any) -> None:
    """The app behind the data plane in the tests below: says what body it got."""
    body, message = b"", {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": body})


def make_plane(running: Any, *, protocols: bool) -> DataPlane:
    return DataPlane(
        passed_on,
        handler=lambda: running.iris,
        served=lambda: running.served_models.get("iris"),
        v2=protocols,
        tfserving=protocols,
        max_bytes=1000,
        timeout_seconds=0.05,
    )


@pytest.fixture
def plane(running: Any) -> DataPlane:
    return make_plane(running, protocols=False)


async def ask_plane(plane: DataPlane, path: str, body: Any, **more: Any) -> tuple[Answer, RequestRecord]:
    request, answer = scope(path, **more), Answer()
    record = request[SCOPE_KEY] = RequestRecord("id", request, body)
    token = current_request.set(record)
    try:
        await plane(request, body, answer)
    finally:
        current_request.reset(token)
    return answer, record


async def test_it_answers_what_it_should_and_notes_the_rows(plane: DataPlane) -> None:
    for path in ROUTES:
        answer, record = await ask_plane(plane, path, Body(b'{"data": [[1,2,3,4],[1,2,3,4]]}'))
        assert (answer.status, record.size) == (200, "rows=2")


async def test_a_body_in_pieces_is_put_together(plane: DataPlane) -> None:
    whole, _ = await ask_plane(plane, ROUTES[0], Body(VALID_BODY))
    pieces, _ = await ask_plane(plane, ROUTES[0], Body(*(bytes([byte]) for byte in VALID_BODY), b""))
    assert (pieces.status, pieces.body) == (200, whole.body)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/iris/predict/", {}),
        ("/iris/predict/batched/", {}),
        ("/other", {}),
        (ROUTES[0], {"method": "PUT"}),
        (ROUTES[0], {"headers": [("content-type", "text/plain")]}),
    ],
)
async def test_other_requests_are_passed_on_untouched(plane: DataPlane, path: str, more: dict[str, Any]) -> None:
    body = Body(VALID_BODY[:9], VALID_BODY[9:])
    answer = await ask(plane, path, body, **more)
    assert (answer.status, answer.body) == (299, VALID_BODY)


@pytest.mark.parametrize(
    "chunks", [[b"nonsense"], [b"non", b"sense"], [b""], [b"[" * 600, b"[" * 600, b"[" * 600], [b"[" * 5000]]
)
async def test_what_it_does_not_answer_is_passed_on_whole(plane: DataPlane, chunks: list[bytes]) -> None:
    answer, _ = await ask_plane(plane, ROUTES[0], Body(*chunks))
    assert (answer.status, answer.body) == (299, b"".join(chunks))


async def test_a_body_above_the_limit_is_not_collected(plane: DataPlane) -> None:
    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})

    plane.app = refuse
    body = Body(*[b" " * 400] * 100)
    await ask_plane(plane, ROUTES[0], body)
    assert body.taken == 1200


@pytest.mark.parametrize("chunks", [[], [VALID_BODY], [VALID_BODY[:5], VALID_BODY[5:10]]])
async def test_a_client_that_leaves_gets_no_answer(plane: DataPlane, chunks: list[bytes]) -> None:
    answer, _ = await ask_plane(plane, ROUTES[0], Body(*chunks, then_leave=True))
    assert answer.starts == []


async def test_a_body_that_never_ends_is_given_up(plane: DataPlane) -> None:
    first = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def trickle() -> dict[str, Any]:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError

    answer, _ = await ask_plane(plane, ROUTES[0], trickle)
    assert answer.status == 504


async def test_it_takes_the_handler_once_and_not_before_a_request() -> None:
    calls = []

    def handler() -> Any:
        calls.append(1)
        raise ZeroDivisionError

    plane = DataPlane(
        passed_on, handler=handler, served=handler, v2=True, tfserving=True, max_bytes=1000, timeout_seconds=1
    )
    assert calls == []
    with pytest.raises(ZeroDivisionError):
        await ask_plane(plane, ROUTES[0], Body(VALID_BODY))
    assert calls == [1]


async def test_websockets_and_lifespan_are_not_its_business(plane: DataPlane) -> None:
    seen = []

    async def app(request: Any, _receive: Any, _send: Any) -> None:
        seen.append(request["type"])

    plane.app = app
    for kind in ("lifespan", "websocket"):
        await plane({"type": kind, "path": ROUTES[0], "headers": []}, Body(), Answer())
    assert seen == ["lifespan", "websocket"]


INFER = "/v2/models/iris/infer"
V2_BODY = b'{"inputs": [{"name": "features", "shape": [2, 4], "datatype": "FP32", "data": [1,2,3,4,1,2,3,4]}]}'


@pytest.fixture
def v2_plane(running: Any) -> DataPlane:
    return make_plane(running, protocols=True)


async def test_inference_is_answered_whole_or_in_pieces_and_notes_rows_and_model(
    v2_plane: DataPlane, running: Any
) -> None:
    version = running.served_models.get("iris").version
    whole, record = await ask_plane(v2_plane, INFER, Body(V2_BODY))
    assert (whole.status, record.size, record.model) == (200, "rows=2", running.iris.model.tag)
    pieces, _ = await ask_plane(v2_plane, f"/v2/models/iris/versions/{version}/infer", Body(V2_BODY[:9], V2_BODY[9:]))
    assert (pieces.status, pieces.body) == (200, whole.body)


async def test_wrong_inference_is_answered_too(v2_plane: DataPlane) -> None:
    for path in (INFER, "/v1/models/iris:predict"):
        answer, _ = await ask_plane(v2_plane, path, Body(b"nonsense"))
        assert answer.status == 400
        assert list(json.loads(answer.body)) == ["error"]


async def test_tensorflow_servings_rows_are_answered(v2_plane: DataPlane, running: Any) -> None:
    answer, record = await ask_plane(v2_plane, "/v1/models/iris:predict", Body(b'{"instances": [[1,2,3,4]]}'))
    assert (answer.status, record.size, record.model) == (200, "rows=1", running.iris.model.tag)
    assert list(json.loads(answer.body)) == ["predictions"]


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (INFER, {"method": "GET"}),
        (INFER, {"headers": [("x-request-timeout-ms", "100")]}),
        ("/v2/models/iris/versions/1/infer", {}),
        ("/v2/models/iris/ready", {}),
        ("/v2/models/inception_v3/infer", {}),
    ],
)
async def test_other_requests_of_the_protocol_are_passed_on_untouched(
    v2_plane: DataPlane, path: str, more: dict[str, Any]
) -> None:
    answer = await ask(v2_plane, path, Body(V2_BODY[:9], V2_BODY[9:]), **more)
    assert (answer.status, answer.body) == (299, V2_BODY)


async def test_inference_is_passed_on_where_the_protocol_is_off_or_the_body_too_long(
    plane: DataPlane, v2_plane: DataPlane
) -> None:
    for path in (INFER, "/v1/models/iris:predict"):
        answer, _ = await ask_plane(plane, path, Body(V2_BODY))
        assert (answer.status, answer.body) == (299, V2_BODY)
    long = [b" " * 600] * 3
    answer, _ = await ask_plane(v2_plane, INFER, Body(*long))
    assert (answer.status, answer.body) == (299, b"".join(long))


@pytest.mark.parametrize("chunks", [[], [V2_BODY], [V2_BODY[:5], V2_BODY[5:10]]])
async def test_a_client_that_leaves_an_inference_gets_no_answer(v2_plane: DataPlane, chunks: list[bytes]) -> None:
    answer, _ = await ask_plane(v2_plane, INFER, Body(*chunks, then_leave=True))
    assert answer.starts == []
