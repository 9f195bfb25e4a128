"""Full queues, runners that are down, and requests that take too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from serving.bento.api import Api
from serving.core.admission import Admission
from serving.core.errors import UnavailableError
from serving.settings import get_settings
from tests.app import Hold, runner_of
from tests.http.asgi import Body, ask
from tests.http.bodies import VALID_BODY
from tests.http.test_bad_input import check_shape
from tests.pictures import encoded, picture

pytestmark = pytest.mark.anyio

IMAGE = {"content": encoded(picture(), "PNG"), "headers": {"content-type": "image/png"}}
ROWS = {"content": VALID_BODY, "headers": {"content-type": "application/json"}}
# Each route that asks a runner: its model and a request.
ASKING = [
    ("POST", "/iris/predict/batched", "iris", ROWS),
    ("POST", "/inception_v3/predict", "inception_v3", IMAGE),
    ("POST", "/inception_v3/predict/label", "inception_v3", IMAGE),
    ("POST", "/inception_v3/predict/batched", "inception_v3", IMAGE),
    ("GET", "/inception_v3/predict/test", "inception_v3", {}),
    ("GET", "/inception_v3/predict/test/label", "inception_v3", {}),
    ("GET", "/inception_v3/metadata", "inception_v3", {}),
]
asking = pytest.mark.parametrize(("method", "path", "owner", "request_parts"), ASKING)


@pytest.fixture(autouse=True)
def undescribed(running: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata's sample answer is asked for again."""
    monkeypatch.setattr(running.http.routes.find("GET", "/inception_v3/metadata").route.handler, "_body", b"")


@asking
async def test_a_full_queue_says_when_to_come_back(
    client: httpx.AsyncClient,
    hold: Hold,
    queued: Any,
    drops: Any,
    method: str,
    path: str,
    owner: str,
    request_parts: dict[str, Any],
) -> None:
    engine = hold(owner, max_queue_rows=1)

    def request() -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(client.request(method, path, **request_parts))

    accepted = [request()]
    await engine.entered()
    accepted.append(request())
    await queued(owner, 1)
    response = await request()
    assert response.status_code == 429
    error = check_shape(response)
    assert (error["code"], error["message"]) == ("overloaded", "1 rows are waiting already; try again later")
    assert int(response.headers["retry-after"]) >= 1
    assert drops(owner) == {"queue_full": 1, "expired": 0, "cancelled": 0}
    engine.release(3)
    assert [(await each).status_code for each in accepted] == [200, 200], "what was accepted is finished"
    assert (await request()).status_code == 200
    await queued(owner, 0)


async def test_retry_after_is_how_long_the_queue_will_take(client: httpx.AsyncClient, hold: Hold, queued: Any) -> None:
    engine = hold("iris", max_queue_rows=10)
    runner_of("iris").batcher._seconds_per_row = 0.7
    first = asyncio.create_task(client.post("/iris/predict/batched", **ROWS))
    await engine.entered()
    waiting = asyncio.create_task(client.post("/iris/predict/batched", json={"data": [[1, 2, 3, 4]] * 10}))
    await queued("iris", 10)
    response = await client.post("/iris/predict/batched", **ROWS)
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    engine.release(3)
    assert [(await each).status_code for each in (first, waiting)] == [200, 200]


@pytest.mark.parametrize(
    ("method", "path", "request_parts"),
    [(method, path, parts) for method, path, owner, parts in ASKING if owner != "iris"],
)
async def test_images_that_one_worker_holds_are_bounded_before_they_are_decoded(
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    hold: Hold,
    drops: Any,
    method: str,
    path: str,
    request_parts: dict[str, Any],
) -> None:
    admission = Admission(1, rejected=running.metrics.rejected("inception_v3", "queue_full"))
    monkeypatch.setattr(running.models["inception_v3"], "admission", admission)
    engine = hold("inception_v3")
    first = asyncio.create_task(client.request(method, path, **request_parts))
    await engine.entered()
    with monkeypatch.context() as patch:
        patch.setattr(running.models["inception_v3"].codec, "_load", lambda _: pytest.fail("decoded"))
        response = await client.request(method, path, **request_parts)
    assert response.status_code == 429
    assert check_shape(response)["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1
    assert drops("inception_v3")["queue_full"] == 1
    engine.release(2)
    assert (await first).status_code == 200
    assert (await client.request(method, path, **request_parts)).status_code == 200


@pytest.mark.parametrize(
    "more", [{"content": b"nonsense"}, {"headers": {"content-type": "text/plain"}}, {"headers": {"accept": "x"}}]
)
async def test_batched_rows_that_one_worker_holds_are_bounded_before_their_body_is_read(
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    hold: Hold,
    drops: Any,
    more: dict[str, Any],
) -> None:
    path = "/iris/predict/batched"
    admission = Admission(1, rejected=running.metrics.rejected("iris", "queue_full"))
    monkeypatch.setattr(running.models["iris"], "admission", admission)
    engine = hold("iris")
    first = asyncio.create_task(client.post(path, **ROWS))
    await engine.entered()
    response = await client.post(path, **(ROWS | more))
    assert response.status_code == 429
    error = check_shape(response)
    assert (error["code"], error["message"]) == ("overloaded", "1 requests are waiting already; try again later")
    assert int(response.headers["retry-after"]) >= 1
    assert drops("iris") == {"queue_full": 1, "expired": 0, "cancelled": 0}
    for other in ("/iris/predict", "/iris/predict/label"):
        assert (await client.post(other, **ROWS)).status_code == 200, "nothing waits there"
    engine.release(2)
    assert (await first).status_code == 200
    assert (await client.post(path, **ROWS)).status_code == 200


FORM_START = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n'


@pytest.mark.parametrize(
    "path", ["/inception_v3/predict", "/inception_v3/predict/label", "/inception_v3/predict/batched"]
)
@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("image/png", b""),
        ("application/json", b'{"image": "'),
        ("multipart/form-data; boundary=edge", FORM_START),
        ("text/plain", b""),
    ],
)
async def test_an_image_that_has_no_place_is_refused_before_its_body_is_read(
    app: Starlette,
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    hold: Hold,
    drops: Any,
    path: str,
    kind: str,
    start: bytes,
) -> None:
    admission = Admission(1, rejected=running.metrics.rejected("inception_v3", "queue_full"))
    monkeypatch.setattr(running.models["inception_v3"], "admission", admission)
    engine = hold("inception_v3")
    first = asyncio.create_task(client.post(path, **IMAGE))
    await engine.entered()
    body = Body(start, *[bytes(65_536)] * 200)
    answer = await ask(app, path, body, headers=[("content-type", kind)])
    assert answer.status == 429
    assert body.taken == 0
    assert drops("inception_v3")["queue_full"] == 1
    engine.release()
    assert (await first).status_code == 200


async def test_the_limits_are_those_of_the_settings(running: Api) -> None:
    for name, entry in get_settings().models.items():
        model, batcher = running.models[name], runner_of(name).batcher
        assert entry.max_in_flight is not None
        assert model.admission._limit == entry.max_in_flight
        assert model.limits.max_rows == entry.max_rows
        assert batcher._max_batch_rows == entry.batching.max_batch_rows
        assert batcher._max_queue_rows == entry.batching.max_queue_rows
        assert batcher._linger_seconds == entry.batching.linger_ms / 1e3 == 0


@asking
async def test_a_runner_that_is_down(
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    owner: str,
    request_parts: dict[str, Any],
) -> None:
    async def gone(_rows: Any, **_options: Any) -> Any:
        raise UnavailableError("the model is not available just now; try again", retry_after=1)

    monkeypatch.setattr(running.models[owner], "_submit", gone)
    response = await client.request(method, path, **request_parts)
    assert response.status_code == 503
    error = check_shape(response)
    assert error["code"] == "unavailable"
    assert response.headers["x-request-id"] in error["message"]
    assert response.headers["retry-after"] == "1"
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_worker_is_not_ready_without_a_runner_that_its_predict_needs(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    monkeypatch.setattr(running.models["inception_v3"], "_runner_ready", lambda: False)
    response = await client.get("/readyz")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert (await client.get("/livez")).status_code == 200


async def test_a_worker_is_ready_without_a_runner_that_only_batches(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Iris is computed in the API process: only `/iris/predict/batched` needs its runner."""
    iris = running.models["iris"]
    monkeypatch.setattr(iris, "_runner_ready", lambda: False)
    assert (await client.get("/readyz")).status_code == 200
    assert (iris.is_ready(), iris.is_ready(batched=True)) == (True, False)
    assert (await client.post("/iris/predict", **ROWS)).status_code == 200


@pytest.mark.usefixtures("short_timeout")
@asking
async def test_a_slow_runner_is_given_up(
    client: httpx.AsyncClient,
    running: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    owner: str,
    request_parts: dict[str, Any],
) -> None:
    cancelled = asyncio.Event()
    told = []

    async def slow(_rows: Any, *, expires_in: float, **_options: Any) -> Any:
        told.append(expires_in)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    monkeypatch.setattr(running.models[owner], "_submit", slow)
    response = await client.request(method, path, **request_parts)
    assert response.status_code == 504
    error = check_shape(response)
    assert error["code"] == "deadline_exceeded"
    assert error["message"].startswith("not answered within 0.25 seconds (request id ")
    assert cancelled.is_set(), "the work is dropped"
    assert told[0] <= 0.25, "the runner knows the limit too"
    assert [model.admission._held for model in running.models] == [0, 0]
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.usefixtures("short_timeout")
@asking
async def test_what_waits_too_long_leaves_the_queue(
    client: httpx.AsyncClient,
    hold: Hold,
    queued: Any,
    drops: Callable[[str], dict[str, float]],
    method: str,
    path: str,
    owner: str,
    request_parts: dict[str, Any],
) -> None:
    engine = hold(owner)
    first = asyncio.create_task(client.request(method, path, **request_parts))
    await engine.entered()
    answers = [await client.request(method, path, **request_parts) for _ in range(3)]
    assert [answer.status_code for answer in (await first, *answers)] == [504] * 4
    await queued(owner, 0)
    assert drops(owner) == {"queue_full": 0, "expired": 3, "cancelled": 0}, "the first had reached the engine"
    engine.release(9)
    await asyncio.sleep(0.05)
    assert engine.sizes == [1], "the engine does nothing for those who gave up"


@pytest.mark.usefixtures("short_timeout")
async def test_a_timeout_of_something_else_is_not_taken_for_the_deadline(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_rows: Any, **_options: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(running.models["iris"], "_submit", fail)
    assert (await client.post("/iris/predict/batched", **ROWS)).status_code == 500


async def test_decoding_does_not_hold_up_other_requests(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = running.models["inception_v3"].codec
    load, decoding = codec._load, asyncio.Event()
    loop = asyncio.get_running_loop()
    release: list[bool] = []

    def slow(content: bytes) -> Any:
        loop.call_soon_threadsafe(decoding.set)
        while not release:
            time.sleep(0.001)
        return load(content)

    monkeypatch.setattr(running.models["inception_v3"].codec, "_load", slow)
    image = asyncio.create_task(client.post("/inception_v3/predict/label", **IMAGE))
    await decoding.wait()
    assert (await client.post("/iris/predict", **ROWS)).status_code == 200
    assert not image.done()
    release.append(True)
    assert (await image).status_code == 200
