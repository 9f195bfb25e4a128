"""No body is read beyond the limit."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from serving.http.application import Application, HttpState
from serving.http.exchange import Answer, Exchange
from serving.http.routes import Route, Routes
from serving.metrics import Metrics
from serving.settings import get_settings
from tests.http.asgi import Answer as Sent
from tests.http.asgi import Body, ask
from tests.http.bodies import VALID_BODY

pytestmark = pytest.mark.anyio

LIMIT = get_settings().api.max_request_bytes
CHUNK = 64 * 1024
POST_ROUTES = [
    "/iris/predict",
    "/iris/predict/label",
    "/iris/predict/batched",
    "/inception_v3/predict",
    "/inception_v3/predict/label",
    "/inception_v3/predict/batched",
]


async def read_all(exchange: Exchange) -> Answer:
    return Answer(str(len(await exchange.body())).encode())


async def stream(exchange: Exchange) -> Answer:
    """As `read_all`, with Starlette's request."""
    return Answer(str(len(await exchange.request().body())).encode())


async def bentoml(_scope: Any, receive: Any, send: Any) -> None:
    size, message = 0, {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        size += len(message.get("body", b""))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture(params=[read_all, stream, None], ids=["read", "stream", "passed on"])
def limited(request: pytest.FixtureRequest) -> Application:
    """Allows bodies of a hundred bytes, however they are read."""
    metrics = Metrics(
        service_name="s", service_version="1", runner_name="r", duration_buckets=[1.0], registry=CollectorRegistry()
    )
    state = HttpState(Routes([Route("POST", "/", request.param, {})]), metrics)
    return Application(bentoml, state=lambda: state, max_bytes=100, time_limit=60, log_predictions=False)


def check_refused(answer: Sent) -> None:
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["message"] == "the body is larger than 100 bytes"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("sizes", [[100], [50, 50], [1] * 100, [0], [100, 0]])
async def test_exactly_the_limit_passes(limited: Application, sizes: list[int]) -> None:
    for headers in ([], [("content-length", str(sum(sizes)))]):
        answer = await ask(limited, "/", Body(*(bytes(size) for size in sizes)), headers=headers)
        assert (answer.status, answer.body) == (200, str(sum(sizes)).encode())


@pytest.mark.parametrize("path", ["/", "/nowhere"])
async def test_a_declared_length_above_the_limit_is_refused_unread(limited: Application, path: str) -> None:
    body = Body(bytes(101))
    check_refused(await ask(limited, path, body, headers=[("content-length", "101")]))
    assert body.taken == 0


async def test_without_a_length_reading_stops_at_the_limit(limited: Application) -> None:
    body = Body(*[bytes(30)] * 1000)
    check_refused(await ask(limited, "/", body, headers=[]))
    assert body.taken == 120


async def test_what_is_left_is_thrown_away_before_the_connection_is_closed(limited: Application) -> None:
    left = Body(*[bytes(30)] * 10)
    check_refused(await ask(limited, "/", left, headers=[("content-length", "300")]))
    assert (left.taken, left.discarded) == (0, 300)
    endless = Body(*[bytes(30)] * 1000)
    check_refused(await ask(limited, "/", endless, headers=[]))
    assert (endless.taken, endless.discarded) == (120, 810), "eight bodies of 100 bytes"


async def test_a_length_that_lies_does_not_help(limited: Application) -> None:
    check_refused(await ask(limited, "/", Body(bytes(101)), headers=[("content-length", "5")]))


@pytest.mark.parametrize("path", POST_ROUTES)
@pytest.mark.parametrize("kind", ["application/json", "image/png", "multipart/form-data; boundary=edge", "text/csv"])
async def test_every_route_refuses_an_endless_body_of_any_kind(app: Starlette, path: str, kind: str) -> None:
    start = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n' if "edge" in kind else b" "
    body = Body(start, *[bytes(CHUNK)] * (2 * LIMIT // CHUNK))
    answer = await ask(app, path, body, headers=[("content-type", kind), ("transfer-encoding", "chunked")])
    accepted = kind == "application/json" or (kind != "text/csv" and "iris" not in path)
    assert answer.status == (413 if accepted else 415)
    assert json.loads(answer.body)["error"]["code"] == ("payload_too_large" if accepted else "unsupported_media_type")
    assert "x-request-id" in answer.headers
    assert body.taken <= LIMIT + CHUNK, "it stopped reading"


@pytest.mark.parametrize("path", [*POST_ROUTES, "/nowhere"])
async def test_every_route_refuses_a_declared_length(client: httpx.AsyncClient, path: str) -> None:
    body = bytes(LIMIT + 1)
    response = await client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.json() == {
        "error": {
            "code": "payload_too_large",
            "message": f"the body is larger than {LIMIT} bytes",
            "details": [],
        }
    }
    assert response.headers["connection"] == "close"
    assert "x-request-id" in response.headers


@pytest.mark.parametrize("path", POST_ROUTES[:3])
async def test_a_body_of_exactly_the_limit_is_predicted(client: httpx.AsyncClient, path: str) -> None:
    body = VALID_BODY + b" " * (LIMIT - len(VALID_BODY))
    response = await client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize("path", POST_ROUTES[:3])
async def test_a_chunked_body_of_exactly_the_limit_is_predicted(app: Starlette, path: str) -> None:
    body = Body(VALID_BODY, b" " * (LIMIT - len(VALID_BODY) - 1), b" ")
    assert (await ask(app, path, body)).status == 200
