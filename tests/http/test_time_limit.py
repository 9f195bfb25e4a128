"""X-Request-Timeout-Ms, and clients that leave while their rows wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from serving.bento.api import Api
from serving.settings import get_settings
from tests.app import Hold, Metric, application
from tests.http.asgi import Answer, Body, Trickle, scope
from tests.http.bodies import VALID_BODY
from tests.http.test_bad_input import INCEPTION_V3, IRIS, check_shape
from tests.http.test_overload import ASKING, IMAGE, ROWS

pytestmark = pytest.mark.anyio

HEADER = "X-Request-Timeout-Ms"
BATCHED = "/iris/predict/batched"
DECLARED = [*(("POST", path, ROWS) for path in IRIS), *(("POST", path, IMAGE) for path in INCEPTION_V3)]
LIMITED = [*DECLARED, *((method, path, request) for method, path, _, request in ASKING if method == "GET")]
limited = pytest.mark.parametrize(("method", "path", "request_parts"), LIMITED)


def with_limit(request_parts: dict[str, Any], value: str | bytes) -> dict[str, Any]:
    headers = [*request_parts.get("headers", {}).items(), (HEADER, value)]
    return {**request_parts, "headers": headers}


@limited
async def test_a_limit_that_is_kept_changes_nothing(
    client: httpx.AsyncClient, method: str, path: str, request_parts: dict[str, Any]
) -> None:
    expected = await client.request(method, path, **request_parts)
    assert expected.status_code == 200
    for value in ("20000", "999999999", "0020000"):
        answer = await client.request(method, path, **with_limit(request_parts, value))
        assert (answer.status_code, answer.content) == (200, expected.content)


INVALID = ["", "0", "000", "-1", "+5", "1.5", "1e3", "0x10", "abc", "1 000", "1,000", "NaN", "9999999999", "٣".encode()]


@limited
async def test_a_limit_that_is_no_number_is_refused(
    client: httpx.AsyncClient, method: str, path: str, request_parts: dict[str, Any]
) -> None:
    for value in INVALID:
        response = await client.request(method, path, **with_limit(request_parts, value))
        assert response.status_code == 400, value
        error = check_shape(response)
        assert error["code"] == "invalid_input"
        assert error["message"] == f"{HEADER}: a whole number of milliseconds above zero is required"


@pytest.mark.parametrize("path", IRIS)
async def test_a_limit_takes_nothing_from_the_headers_of_the_answer(client: httpx.AsyncClient, path: str) -> None:
    headers = [*ROWS["headers"].items(), ("x-request-id", "id")]
    without = await client.post(path, content=VALID_BODY, headers=headers)
    within = await client.post(path, content=VALID_BODY, headers=[*headers, (HEADER, "20000")])
    assert (within.status_code, within.content, dict(within.headers)) == (200, without.content, dict(without.headers))


@pytest.mark.parametrize(("method", "path", "owner", "request_parts"), ASKING)
async def test_what_waits_longer_than_its_client_does_leaves_the_queue(
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    hold: Hold,
    queued: Any,
    drops: Callable[[str], dict[str, float]],
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    owner: str,
    request_parts: dict[str, Any],
) -> None:
    monkeypatch.setattr(running.http.routes.find("GET", "/inception_v3/metadata").route.handler, "_body", b"")
    engine = hold(owner)
    patient = asyncio.create_task(client.request(method, path, **request_parts))
    await engine.entered()
    before = time.monotonic()
    response = await client.request(method, path, **with_limit(request_parts, "400"))
    took = time.monotonic() - before
    assert response.status_code == 504
    error = check_shape(response)
    assert error["code"] == "deadline_exceeded"
    assert error["message"].startswith("not answered within 0.4 seconds (request id ")
    assert took >= 0.4
    await queued(owner, 0)
    assert drops(owner) == {"queue_full": 0, "expired": 1, "cancelled": 0}
    engine.release(9)
    assert (await patient).status_code == 200, "the limit of one is not that of another"
    assert engine.sizes == [1]
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("path", IRIS)
async def test_a_body_that_arrives_too_slowly_is_given_up(app: Starlette, path: str) -> None:
    answer = Answer()
    headers = [("content-type", "application/json"), (HEADER, "50")]
    await asyncio.wait_for(app(scope(path, headers=headers), Trickle(), answer), 60)
    assert answer.status == 504


@pytest.mark.usefixtures("short_timeout")
async def test_the_limit_of_the_server_cannot_be_raised(client: httpx.AsyncClient, hold: Hold) -> None:
    hold("iris")
    response = await client.post(BATCHED, **with_limit(ROWS, "20000"))
    assert response.status_code == 504
    assert check_shape(response)["message"].startswith("not answered within 0.25 seconds")


async def test_the_limit_of_the_server_is_that_of_the_settings(app: Starlette, client: httpx.AsyncClient) -> None:
    await client.get("/health")
    assert application(app)._time_limit == get_settings().server.request_timeout_seconds


def _left(metric: Metric, path: str) -> float:
    counts = metric("bentoml_service_request_total").items()
    return sum(n for labels, n in counts if f'endpoint="{path}"' in labels and 'http_response_code="499"' in labels)


# The second has its time limit and takes the way of what is not plain JSON.
LEAVING = [
    ("iris", BATCHED, {"content-type": "application/json"}, VALID_BODY),
    ("iris", BATCHED, {"content-type": "application/json", HEADER: "50000"}, VALID_BODY),
    *(("inception_v3", path, {"content-type": "image/png"}, IMAGE["content"]) for path in INCEPTION_V3),
]


@pytest.fixture(params=LEAVING, ids=[f"{path}-{len(headers)}" for _, path, headers, _ in LEAVING])
def leaving(request: pytest.FixtureRequest, app: Starlette) -> Any:
    """Model, route, and how to send a request whose client can leave."""
    model, path, headers, content = request.param

    def send(body: Body, answer: Answer) -> asyncio.Task[None]:
        return asyncio.create_task(app(scope(path, headers=headers.items()), body, answer))

    return model, path, lambda: Body(content), send


async def test_a_client_that_leaves_while_it_waits_is_dropped(
    leaving: Any,
    hold: Hold,
    queued: Any,
    drops: Callable[[str], dict[str, float]],
    metric: Metric,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, path, make_body, send = leaving
    engine = hold(model)
    before = _left(metric, path)
    bodies, answers = [make_body() for _ in range(3)], [Answer() for _ in range(3)]
    with caplog.at_level(logging.INFO):
        tasks = [send(bodies[0], answers[0])]
        await engine.entered()
        tasks += [send(body, answer) for body, answer in zip(bodies[1:], answers[1:], strict=True)]
        await queued(model, 2)
        bodies[1].gone.set()
        await asyncio.wait_for(tasks[1], 60)
        await queued(model, 1)
        assert drops(model) == {"queue_full": 0, "expired": 0, "cancelled": 1}
        assert _left(metric, path) == before + 1
        engine.release(2)
        await asyncio.gather(tasks[0], tasks[2])
    assert answers[1].body == b""
    assert [answers[0].status, answers[2].status] == [200, 200]
    assert engine.sizes == [1, 1], "the rows of the one that left never reached the engine"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    lines = [record.getMessage() for record in caplog.records if record.name == "serving.prediction"]
    assert [f"{path} status=499" in line for line in lines] == [True, False, False]


async def test_a_client_that_leaves_while_the_engine_works_for_it(
    leaving: Any,
    hold: Hold,
    drops: Callable[[str], dict[str, float]],
    metric: Metric,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, path, make_body, send = leaving
    engine = hold(model)
    before = _left(metric, path)
    bodies, answers = [make_body(), make_body()], [Answer(), Answer()]
    gone = send(bodies[0], answers[0])
    await engine.entered()
    bodies[0].gone.set()
    await asyncio.wait_for(gone, 60)
    engine.release(2)
    await asyncio.wait_for(send(bodies[1], answers[1]), 60)
    assert (answers[0].body, answers[1].status) == (b"", 200)
    assert _left(metric, path) == before + 1
    assert drops(model) == {"queue_full": 0, "expired": 0, "cancelled": 0}, "it was not waiting any more"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_client_that_leaves_while_its_image_is_decoded(
    app: Starlette, running: Api, monkeypatch: pytest.MonkeyPatch, metric: Metric, caplog: pytest.LogCaptureFixture
) -> None:
    model = running.models["inception_v3"]
    load, decoding, loop = model.codec._load, asyncio.Event(), asyncio.get_running_loop()
    release: list[bool] = []

    def slow(content: bytes) -> Any:
        loop.call_soon_threadsafe(decoding.set)
        while not release:
            time.sleep(0.001)
        return load(content)

    monkeypatch.setattr(model.codec, "_load", slow)
    monkeypatch.setattr(model, "_submit", lambda *_, **__: pytest.fail("nobody wants it"))
    path = INCEPTION_V3[0]
    before = _left(metric, path)
    body, answer = Body(IMAGE["content"]), Answer()
    task = asyncio.create_task(app(scope(path, headers=[("content-type", "image/png")]), body, answer))
    await decoding.wait()
    assert model.admission._held == 1
    body.gone.set()
    await asyncio.wait_for(task, 60)
    release.append(True)
    assert model.admission._held == 0
    assert _left(metric, path) == before + 1
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# Of the app's own, whose pauses begin and end at any time; of requests there would be one for each of a hundred.
FEW = 10


def _pending_timers() -> int:
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


async def test_requests_leave_no_timer_and_no_task_behind(client: httpx.AsyncClient, hold: Hold) -> None:
    hold("inception_v3").release(1000)
    requests = [
        ("/iris/predict", ROWS, 200),
        ("/iris/predict", with_limit(ROWS, "20000"), 200),
        (BATCHED, ROWS, 200),
        (BATCHED, with_limit(ROWS, "20000"), 200),
        (BATCHED, with_limit(ROWS, "nonsense"), 400),
        (BATCHED, ROWS | {"headers": {"content-type": "application/json; charset=utf-8"}}, 200),
        (INCEPTION_V3[0], IMAGE, 200),
        (INCEPTION_V3[2], IMAGE, 200),
    ]
    timers, tasks = _pending_timers(), len(asyncio.all_tasks())
    for _ in range(13):
        answers = await asyncio.gather(*(client.post(path, **more) for path, more, _ in requests))
        assert [answer.status_code for answer in answers] == [status for *_, status in requests]
    await asyncio.sleep(0)
    assert _pending_timers() < timers + FEW
    assert len(asyncio.all_tasks()) < tasks + FEW


async def test_requests_that_time_out_leave_no_timer_and_no_task_behind(
    client: httpx.AsyncClient, hold: Hold, queued: Any
) -> None:
    engine = hold("iris", max_queue_rows=1000)
    timers, tasks = _pending_timers(), len(asyncio.all_tasks())
    answers = await asyncio.gather(*(client.post(BATCHED, **with_limit(ROWS, "30")) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {504}
    await queued("iris", 0)
    assert _pending_timers() < timers + FEW
    assert len(asyncio.all_tasks()) < tasks + FEW
    engine.release(9)
