"""Ids, metrics, log lines and the last resort."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette

from serving.bento.api import Api
from serving.codecs.image_decoding import sample_image
from serving.core.errors import PayloadTooLargeError
from serving.http.application import Application, HttpState
from serving.http.exchange import Answer as HttpAnswer
from serving.http.exchange import Exchange
from serving.http.routes import UNMATCHED, Route, Routes
from serving.logs import configure_logging
from serving.metrics import Metrics
from serving.model import Models
from serving.settings.observability import LoggingSettings
from tests.http.asgi import Answer, Body, ask
from tests.http.bodies import VALID_BODY
from tests.process_state import kept_logging

pytestmark = pytest.mark.anyio

ID = "x-request-id"
JSON, PNG = {"content-type": "application/json"}, {"content-type": "image/png"}


@pytest.mark.parametrize("sent", ["a", "Az09._:/+=-", "x" * 128, "0b6e2b0c-57b2-4b8d-9a2e-3f1d6a7c9e10"])
async def test_an_id_is_taken_over(client: httpx.AsyncClient, sent: str) -> None:
    response = await client.post("/iris/predict", content=VALID_BODY, headers={**JSON, ID: sent})
    assert response.headers.get_list(ID) == [sent]


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\tb", "ä", "a;b", '"', "{}", "a,b", "%0a"])
async def test_an_id_that_could_spoil_a_log_is_replaced(client: httpx.AsyncClient, sent: str) -> None:
    response = await client.get("/health", headers={ID: sent.encode()})
    (made,) = response.headers.get_list(ID)
    assert len(made) == 32
    assert int(made, 16) >= 0


async def test_made_ids_differ(client: httpx.AsyncClient) -> None:
    assert len({(await client.get("/health")).headers[ID] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/docs.json", 200),
        ("GET", "/metrics", 200),
        ("GET", "/iris/label", 200),
        ("GET", "/nope", 404),
        ("PUT", "/iris/predict", 405),
        ("DELETE", "/iris/label", 405),
        ("POST", "/iris/predict", 400),
        ("POST", "/iris/predict/batched", 400),
        ("POST", "/inception_v3/predict", 400),
        ("GET", "/iris/predict/", 404),
    ],
)
async def test_every_answer_has_one_id(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await client.request(method, path, headers={ID: "mine"})
    assert response.status_code == status
    assert response.headers.get_list(ID) == ["mine"]


class Broken(Exception):
    """What no code expects."""


def fail(*_arguments: Any, **_more: Any) -> Any:
    raise Broken("secret: /etc/passwd")


BREAKABLE = [
    ("POST", "/iris/predict", ("models", "iris", "engine", "run"), {"content": VALID_BODY, "headers": JSON}),
    ("POST", "/iris/predict/label", ("models", "iris", "engine", "run"), {"content": VALID_BODY, "headers": JSON}),
    ("POST", "/iris/predict/batched", ("models", "iris", "_submit"), {"content": VALID_BODY, "headers": JSON}),
    ("POST", "/inception_v3/predict", ("models", "inception_v3", "codec", "_load"), {"content": b"x!", "headers": PNG}),
    ("GET", "/iris/predict/test", ("models", "iris", "engine", "run"), {}),
    ("GET", "/inception_v3/predict/test", ("models", "inception_v3", "_submit"), {}),
    ("GET", "/metrics", ("metrics", "render"), {}),
]  # fmt: skip


def owner_of(running: Api, way: tuple[str, ...]) -> Any:
    """What has the attribute that is last on the way."""
    found: Any = running
    for name in way[:-1]:
        found = found[name] if isinstance(found, Models) else getattr(found, name)
    return found


@pytest.mark.parametrize(("method", "path", "way", "more"), BREAKABLE)
async def test_the_unexpected_is_logged_once_and_told_to_nobody(
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    way: tuple[str, ...],
    more: dict[str, Any],
) -> None:
    monkeypatch.setattr(owner_of(running, way), way[-1], fail)
    more = {**more, "headers": {**more.get("headers", {}), ID: "mine"}}
    response = await client.request(method, path, **more)
    assert response.status_code == 500
    assert response.headers.get_list(ID) == ["mine"]
    assert response.json() == {
        "error": {
            "code": "internal_error",
            "message": "something went wrong on the server (request id mine)",
            "details": [],
        }
    }
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert record.exc_info[0] is Broken
    assert record.getMessage() == f"{path} failed request_id=mine"
    assert record.levelno == logging.ERROR


async def test_a_failure_does_not_stay(client: httpx.AsyncClient) -> None:
    for _, path, _, more in BREAKABLE[:3]:
        assert (await client.post(path, **more)).status_code == 200


async def test_unknown_paths_add_no_series(client: httpx.AsyncClient, running: Api) -> None:
    await client.get("/nope")

    def series() -> set[str]:
        text: str = running.metrics.render()[0].decode()
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    before = series()
    await asyncio.gather(*(client.get(f"/nope/{n}", headers={ID: f"id-{n}"}) for n in range(1000)))
    assert series() == before


async def test_requests_are_counted_timed_and_labelled_by_template(
    client: httpx.AsyncClient, metric: Callable[[str], dict[str, float]]
) -> None:
    name = "bentoml_service_request"

    async def growth(method: str, path: str, endpoint: str, status: int, **more: Any) -> float:
        def value(what: str) -> float:
            found = [
                amount
                for labels, amount in metric(f"{name}_{what}").items()
                if f'endpoint="{endpoint}"' in labels and f'http_response_code="{status}"' in labels
            ]
            return sum(found)

        before = value("total"), value("duration_seconds_count"), value("duration_seconds_sum")
        assert (await client.request(method, path, **more)).status_code == status
        after = value("total"), value("duration_seconds_count"), value("duration_seconds_sum")
        assert after[1] - before[1] == 1
        assert 0 < after[2] - before[2] < 10
        return after[0] - before[0]

    assert await growth("POST", "/iris/predict", "/iris/predict", 200, content=VALID_BODY, headers=JSON) == 1
    assert await growth("POST", "/iris/predict", "/iris/predict", 400, content=b"", headers=JSON) == 1
    assert await growth("GET", "/iris/label?x=1", "/iris/label", 200) == 1
    assert await growth("GET", "/", "/", 200) == 1
    assert await growth("GET", "/docs.json", "/docs.json", 200) == 1
    assert await growth("GET", "/iris/labels", UNMATCHED, 404) == 1
    assert set(metric(f"{name}_in_progress").values()) == {0.0}


async def _logged(client: httpx.AsyncClient, kind: str, **request: Any) -> str:
    """What the server writes about one request with its own logging."""
    out = io.StringIO()
    with kept_logging():
        configure_logging(LoggingSettings(format=kind))
        (handler,) = logging.getLogger().handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(out)
        await client.request(**request)
    return out.getvalue()


IRIS = {"method": "POST", "url": "/iris/predict", "content": VALID_BODY, "headers": {**JSON, ID: "mine"}}


async def test_the_line_of_a_prediction_as_text(client: httpx.AsyncClient, running: Api) -> None:
    line = await _logged(client, "text", **IRIS)
    tag = running.models["iris"].tag
    assert line.count("\n") == 1
    when, _, rest = line.partition(" INFO serving.prediction ")
    assert when.startswith("20")
    words = rest.split()
    assert words[:4] == ["/iris/predict", "status=200", f"model={tag}", "rows=1"]
    assert float(words[4].removeprefix("ms=")) > 0
    assert words[5:] == ["request_id=mine"]


async def test_the_line_of_a_prediction_as_json(client: httpx.AsyncClient, running: Api) -> None:
    content = json.loads(await _logged(client, "json", **IRIS))
    assert content.pop("milliseconds") > 0
    assert content.pop("timestamp").startswith("20")
    assert content.pop("message").startswith("/iris/predict status=200")
    assert content == {
        "level": "INFO",
        "logger": "serving.prediction",
        "endpoint": "/iris/predict",
        "status": 200,
        "model": running.models["iris"].tag,
        "size": "rows=1",
        "request_id": "mine",
    }


async def test_an_image_is_logged_with_its_pixels_and_a_bad_one_with_its_status(
    client: httpx.AsyncClient, running: Api
) -> None:
    request = {"method": "POST", "url": "/inception_v3/predict/label", "headers": {"content-type": "image/png"}}
    good = json.loads(await _logged(client, "json", **request, content=sample_image()))
    assert (good["status"], good["size"], good["model"]) == (200, "pixels=1024", running.models["inception_v3"].tag)
    bad = json.loads(await _logged(client, "json", **request, content=b"x"))
    assert (bad["status"], bad["size"]) == (400, "-")


@pytest.mark.parametrize(
    "request_parts",
    [{"method": "GET", "url": url} for url in ("/health", "/nope", "/iris/label", "/metrics", "/")],
)
async def test_only_predictions_are_logged(client: httpx.AsyncClient, request_parts: dict[str, Any]) -> None:
    assert await _logged(client, "text", **request_parts) == ""


async def test_a_failure_in_json_is_one_line_with_its_traceback(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.models["iris"].engine, "run", fail)
    failure, prediction = map(json.loads, (await _logged(client, "json", **IRIS)).splitlines())
    assert (failure["level"], failure["logger"]) == ("ERROR", "serving.error")
    assert "Broken" in failure["exc_info"]
    assert failure["message"].endswith("request_id=mine")
    assert (prediction["status"], prediction["request_id"]) == (500, "mine")


@pytest.mark.parametrize("path", ["/iris/predict", "/iris/predict/batched", "/inception_v3/predict"])
@pytest.mark.parametrize("chunks", [[], [b'{"data"'], [b'{"data"', b": "]])
async def test_a_client_that_leaves_is_counted_and_not_an_error(
    app: Starlette,
    metric: Callable[[str], dict[str, float]],
    caplog: pytest.LogCaptureFixture,
    path: str,
    chunks: list[bytes],
) -> None:
    def left() -> float:
        counts = metric("bentoml_service_request_total").items()
        return sum(n for labels, n in counts if f'endpoint="{path}"' in labels and 'http_response_code="499"' in labels)

    before = left()
    with caplog.at_level(logging.INFO):
        await ask(app, path, Body(*chunks, then_leave=True))
    assert left() == before + 1
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert "status=499" in caplog.text


@pytest.fixture
def alone() -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = Metrics(service_name="s", service_version="1", runner_name="r", duration_buckets=[1.0], registry=registry)
    return metrics, registry


def front(
    metrics: Metrics,
    routes: Iterable[Route] = (),
    *,
    app: Any = None,
    log_predictions: bool = True,
    max_bytes: int = 1000,
) -> Application:
    """The application with these routes in front of `app`."""
    state = HttpState(Routes(routes), metrics)
    return Application(app, state=lambda: state, max_bytes=max_bytes, time_limit=1, log_predictions=log_predictions)


def route(handler: Any = None, path: str = "/x") -> Route:
    return Route("POST", path, handler, {})


async def test_a_failure_after_the_answer_began_is_not_answered_twice(
    alone: tuple[Metrics, CollectorRegistry], caplog: pytest.LogCaptureFixture
) -> None:
    async def late(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise Broken

    assert (await ask(front(alone[0], [route()], app=late), "/x", Body())).status == 200
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_a_cancelled_request_leaves_nothing_in_progress(alone: tuple[Metrics, CollectorRegistry]) -> None:
    async def hang(_exchange: Exchange) -> Any:
        await asyncio.Event().wait()

    task = asyncio.create_task(ask(front(alone[0], [route(hang)]), "/x", Body()))
    await asyncio.sleep(0)
    gauge = 'bentoml_service_request_in_progress{endpoint="/x",runner_name="r",service_name="s",service_version="1"}'
    assert f"{gauge} 1.0" in generate_latest(alone[1]).decode()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert f"{gauge} 0.0" in generate_latest(alone[1]).decode()


async def test_bentomls_application_knows_the_id_and_gets_the_request_untouched(
    alone: tuple[Metrics, CollectorRegistry],
) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["serving.request_id"])
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        await send({"type": "http.response.start", "status": 299, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": body})

    answer = await ask(front(alone[0], [route()], app=app), "/x", Body(b"so", b"me"), headers=[(ID, "mine")])
    assert seen == ["mine"]
    assert (answer.status, answer.body) == (299, b"some")
    assert answer.headers == {"a": "b", ID: "mine"}


async def test_predictions_are_not_logged_where_settings_say_so(
    alone: tuple[Metrics, CollectorRegistry], caplog: pytest.LogCaptureFixture
) -> None:
    async def predict(exchange: Exchange) -> HttpAnswer:
        exchange.model = "m:1"
        return HttpAnswer(b"")

    for log, lines in ((True, 1), (False, 0)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            await ask(front(alone[0], [route(predict)], log_predictions=log), "/x", Body())
        assert len(caplog.records) == lines


async def test_what_is_not_http_passes_without_a_trace(alone: tuple[Metrics, CollectorRegistry]) -> None:
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await front(alone[0], app=app)({"type": kind, "path": "/x", "headers": []}, Body(), Answer())
    assert seen == ["lifespan", "websocket"]


async def test_the_order_from_outside_in(app: Starlette) -> None:
    """What is refused early still has an id and is counted."""
    assert app.user_middleware[0].cls is Application


async def test_it_asks_for_its_state_once_and_not_before_a_request() -> None:
    calls = []

    def state() -> Any:
        calls.append(1)
        raise ZeroDivisionError

    application = Application(None, state=state, max_bytes=1, time_limit=1, log_predictions=False)  # type: ignore[arg-type]
    assert calls == []
    with pytest.raises(ZeroDivisionError):
        await ask(application, "/x", Body())
    assert calls == [1]


async def test_while_draining_every_answer_is_the_last_on_its_connection(
    alone: tuple[Metrics, CollectorRegistry],
) -> None:
    async def passed_on(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def answer(_exchange: Exchange) -> HttpAnswer:
        return HttpAnswer(b"{}")

    async def too_large(_exchange: Exchange) -> HttpAnswer:
        raise PayloadTooLargeError("too large")

    draining = False
    routes = Routes([route(answer), route(None, "/passed"), route(too_large, "/large")])
    state = HttpState(routes, alone[0], lambda: draining)
    application = Application(passed_on, state=lambda: state, max_bytes=9, time_limit=1, log_predictions=False)
    for path in ("/x", "/passed", "/nope"):
        draining = False
        assert "connection" not in (await ask(application, path, Body(b""))).headers
        draining = True
        assert (await ask(application, path, Body(b""))).headers["connection"] == "close"
    (start,) = (await ask(application, "/large", Body(b""))).starts
    assert [name for name, _ in start["headers"]].count(b"connection") == 1


async def test_a_state_is_kept(alone: tuple[Metrics, CollectorRegistry]) -> None:
    calls = []

    def state() -> HttpState:
        calls.append(1)
        return HttpState(Routes([]), alone[0])

    application = Application(None, state=state, max_bytes=1, time_limit=1, log_predictions=False)  # type: ignore[arg-type]
    for _ in range(3):
        assert (await ask(application, "/x", Body())).status == 404
    assert calls == [1]


async def test_a_request_is_freed_without_the_garbage_collector(alone: tuple[Metrics, CollectorRegistry]) -> None:
    """A cycle for each request made the collector stop the server for tens of milliseconds at a time."""

    async def answer(_exchange: Exchange) -> HttpAnswer:
        return HttpAnswer(b"")

    application = front(alone[0], [route(answer)])

    def exchanges() -> set[int]:
        return {id(kept) for kept in gc.get_objects() if isinstance(kept, Exchange)}

    gc.collect()
    gc.disable()
    try:
        # asyncio keeps the timers of earlier tests' time limits, and with them their requests, for a while
        before = exchanges()
        for _ in range(20):
            await ask(application, "/x", Body())
        assert exchanges() - before == set()
    finally:
        gc.enable()
