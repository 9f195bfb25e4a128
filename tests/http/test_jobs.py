"""The jobs routes, with workers played by the tests."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest
from starlette.applications import Starlette

from serving.bento.api import Api
from serving.core.errors import OverloadedError, UnavailableError
from serving.core.tensors import from_bytes
from serving.http.job_handler import JobsHandler
from serving.jobs.job import JobError, Lease, NewJob, Status
from serving.jobs.store import JobStore
from serving.settings import get_settings
from tests.http.asgi import Answer, Body, scope
from tests.http.bodies import VALID_BODY
from tests.http.test_bad_input import BAD_IMAGES, BAD_ROWS, BAD_TOP_K, check_shape
from tests.pictures import encoded, picture

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
PNG = encoded(picture(), "PNG")
RESULT = b'{"prediction":[[0.1,0.20,0.7]]}'
UNKNOWN = "/jobs/AAAAAAAAAAAAAAAAAAAAAA"
EVERY_ROUTE = [
    ("POST", "/iris/jobs", "submit"),
    ("POST", "/inception_v3/jobs", "submit"),
    ("GET", UNKNOWN, "get"),
    ("GET", f"{UNKNOWN}?wait=1", "wait"),
    ("DELETE", UNKNOWN, "cancel"),
    ("GET", "/jobs", "page"),
    ("POST", f"{UNKNOWN}/retry", "get"),
    ("GET", "/jobs/stats", "stats"),
]


def handler_of(running: Api) -> JobsHandler:
    handler = running._services.jobs
    assert handler is not None
    return handler


@pytest.fixture
async def store(running: Api) -> AsyncIterator[JobStore]:
    """The store of the service; what a test leaves unfinished is cancelled."""
    store: JobStore = handler_of(running).store
    yield store
    for status in (Status.QUEUED, Status.RUNNING):
        for job in (await store.page(status=status, limit=200)).jobs:
            await store.cancel(job.id)


async def post(client: httpx.AsyncClient, model: str = "iris", **more: Any) -> httpx.Response:
    request = {"content": VALID_BODY, "headers": JSON} | more
    if model == "inception_v3":
        request = {"content": PNG, "headers": {"content-type": "image/png"}} | more
    return await client.post(f"/{model}/jobs", **request)


async def submitted(client: httpx.AsyncClient, model: str = "iris", **more: Any) -> str:
    response = await post(client, model, **more)
    assert response.status_code == 202, response.text
    job_id: str = response.json()["job_id"]
    return job_id


async def claimed(store: JobStore, model: str = "iris") -> Lease:
    (claim,) = await store.claim(model, "worker", limit=1)
    return claim.lease


async def failed(store: JobStore, job_id: str) -> None:
    lease = await claimed(store)
    assert lease.job_id == job_id
    assert await store.fail(lease, JobError("internal_error", "it broke"), retryable=False)


async def test_a_job_is_accepted_run_and_answered(client: httpx.AsyncClient, store: JobStore) -> None:
    response = await post(client)
    assert response.status_code == 202
    job_id = response.json()["job_id"]
    assert response.json() == {"job_id": job_id, "status": "queued", "status_url": f"/jobs/{job_id}"}
    assert response.headers["location"] == f"/jobs/{job_id}"
    assert len(job_id) == 22

    answer = await client.get(response.headers["location"])
    waiting = answer.json()
    assert answer.headers["retry-after"] == "1"
    assert waiting["status"] == "queued"
    assert (waiting["position"], waiting["attempts"], waiting["max_retries"]) == (0, 0, 3)
    assert [waiting[name] for name in ("started_at", "finished_at", "next_attempt_at", "error", "result")] == [None] * 5
    created, expires = (datetime.fromisoformat(waiting[name]) for name in ("created_at", "expires_at"))
    assert created.tzinfo == UTC
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=60)
    assert expires - created == timedelta(seconds=300)

    lease = await claimed(store)
    running = (await client.get(f"/jobs/{job_id}")).json()
    assert (running["status"], running["attempts"], running["position"]) == ("running", 1, None)
    assert running["started_at"] >= running["created_at"]

    assert await store.succeed(lease, RESULT)
    answer = await client.get(f"/jobs/{job_id}")
    assert "retry-after" not in answer.headers
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["finished_at"] >= running["started_at"]
    assert b'"result":' + RESULT + b"}" in answer.content, "the bytes of the worker, not written anew"


async def test_the_payload_is_what_a_worker_needs(client: httpx.AsyncClient, store: JobStore) -> None:
    for more in (
        {"params": {"top_k": "2"}},
        {"content": None, "headers": {}, "files": {"image": ("f", PNG)}, "data": {"top_k": "2"}},
        {"content": json.dumps({"image": base64.b64encode(PNG).decode(), "top_k": 2}), "headers": JSON},
    ):
        await submitted(client, "inception_v3", **more)
        (claim,) = await store.claim("inception_v3", "worker", limit=1)
        assert claim.payload == PNG
        assert json.loads(claim.parameters) == {"top_k": 2, "v": 1}
    await submitted(client, "inception_v3")
    (claim,) = await store.claim("inception_v3", "worker", limit=1)
    assert json.loads(claim.parameters) == {"top_k": 5, "v": 1}
    await submitted(client)
    (claim,) = await store.claim("iris", "worker", limit=1)
    assert from_bytes(claim.payload)["features"].tolist() == np.float32([[5.1, 3.5, 1.4, 0.2]]).tolist()
    assert len(claim.payload) < 64


@pytest.mark.parametrize(("more", "status", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
async def test_rows_are_judged_before_a_job_is_accepted(
    client: httpx.AsyncClient, store: JobStore, more: dict[str, Any], status: int, message: str
) -> None:
    response = await client.post("/iris/jobs", **more)
    assert response.status_code == status
    assert message in check_shape(response)["message"]
    assert (await store.page(status=Status.QUEUED)).jobs == []


BAD = {name: case for name, case in (BAD_IMAGES | BAD_TOP_K).items() if name != "truncated"}


@pytest.mark.parametrize(("more", "status", "message"), BAD.values(), ids=BAD)
async def test_images_are_judged_by_their_header_before_a_job_is_accepted(
    client: httpx.AsyncClient, store: JobStore, more: dict[str, Any], status: int, message: str
) -> None:
    response = await client.post("/inception_v3/jobs", **more)
    assert response.status_code == status
    assert message in check_shape(response)["message"]
    assert (await store.page(status=Status.QUEUED)).jobs == []


async def test_a_damaged_image_is_found_out_by_the_worker(client: httpx.AsyncClient, store: JobStore) -> None:
    await submitted(client, "inception_v3", content=PNG[:200])
    assert await claimed(store, "inception_v3")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_retries": "-1"}, "max_retries: "),
        ({"max_retries": "11"}, "max_retries: Input should be less than or equal to 10"),
        ({"max_retries": "x"}, "max_retries: "),
        ({"ttl_seconds": "0"}, "ttl_seconds: "),
        ({"ttl_seconds": "86401"}, "ttl_seconds: Input should be less than or equal to 86400"),
        ({"ttl_seconds": "nan"}, "ttl_seconds: "),
        ({"ttl_seconds": "inf"}, "ttl_seconds: "),
    ],
)
async def test_limits_of_a_request_are_within_those_of_the_server(
    client: httpx.AsyncClient, store: JobStore, params: dict[str, str], message: str
) -> None:
    response = await post(client, params=params)
    assert response.status_code == 400
    error = check_shape(response)
    assert error["message"].startswith(message)
    assert error["details"][0]["field"] == next(iter(params))
    assert (await store.page(status=Status.QUEUED)).jobs == []


async def test_limits_of_a_request_override_those_of_the_model(client: httpx.AsyncClient, store: JobStore) -> None:
    job = await store.get(await submitted(client, params={"max_retries": "0", "ttl_seconds": "7.5"}))
    assert job.max_retries == 0
    assert job.expires_at - job.created_at == pytest.approx(7.5, abs=0.01)


async def test_a_payload_beyond_the_limit_is_refused(client: httpx.AsyncClient, store: JobStore) -> None:
    most = get_settings().jobs.max_payload_bytes
    await submitted(client, "inception_v3", content=PNG + bytes(most - len(PNG)))
    response = await post(client, "inception_v3", content=PNG + bytes(most - len(PNG) + 1))
    assert response.status_code == 413
    assert check_shape(response)["code"] == "payload_too_large"
    too_large = await post(client, content=b" " * (get_settings().api.max_request_bytes + 1))
    assert too_large.status_code == 413
    assert len((await store.page(status=Status.QUEUED)).jobs) == 1


async def test_the_same_key_and_request_are_one_job(client: httpx.AsyncClient, store: JobStore) -> None:
    headers = {**JSON, "Idempotency-Key": "order-1"}
    first = await post(client, headers=headers)
    # spelt differently, the same rows
    again = await post(client, headers=headers, content=VALID_BODY.replace(b" ", b"") + b"\n")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    other = await post(client, headers=headers, content=VALID_BODY.replace(b"5.1", b"5.2"))
    assert other.status_code == 409
    assert check_shape(other)["code"] == "conflict"
    assert len((await store.page(status=Status.QUEUED)).jobs) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é", "a\tb"])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, store: JobStore, key: str) -> None:
    response = await client.post(
        "/iris/jobs", content=VALID_BODY, headers=[*JSON.items(), ("Idempotency-Key", key.encode("latin-1"))]
    )
    assert response.status_code == 400
    assert "Idempotency-Key" in check_shape(response)["message"]
    assert (await store.page(status=Status.QUEUED)).jobs == []


async def test_two_keys_are_refused(client: httpx.AsyncClient) -> None:
    headers = [*JSON.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await client.post("/iris/jobs", content=VALID_BODY, headers=headers)).status_code == 400


async def test_a_full_queue_says_when_to_come_back(
    client: httpx.AsyncClient, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_new: NewJob) -> Any:
        raise OverloadedError("the queue is full", retry_after=6.2)

    monkeypatch.setattr(store, "submit", full)
    response = await post(client)
    assert response.status_code == 429
    assert check_shape(response)["code"] == "overloaded"
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize(("method", "path", "asks"), EVERY_ROUTE)
async def test_while_the_store_is_away_the_answer_is_503(
    client: httpx.AsyncClient, store: JobStore, monkeypatch: pytest.MonkeyPatch, method: str, path: str, asks: str
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise UnavailableError("the job store cannot be reached", retry_after=2)

    with monkeypatch.context() as patched:
        patched.setattr(store, asks, away)
        response = await (
            post(client, path.split("/")[1]) if method == "POST" and "AAA" not in path else client.request(method, path)
        )
        assert (await client.get("/readyz")).status_code == 200, "predictions need no store"
    assert response.status_code == 503
    assert check_shape(response)["code"] == "unavailable"
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize(("method", "path", "asks"), EVERY_ROUTE)
async def test_the_time_limit_holds_on_every_route(
    client: httpx.AsyncClient, store: JobStore, monkeypatch: pytest.MonkeyPatch, method: str, path: str, asks: str
) -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(store, asks, hang)
        limit = {"X-Request-Timeout-Ms": "30"}
        kind = {"content-type": "image/png"} if "inception" in path else JSON
        body = PNG if "inception" in path else VALID_BODY
        response = await client.request(method, path, content=body, headers={**kind, **limit})
    assert response.status_code == 504
    assert check_shape(response)["code"] == "deadline_exceeded"


async def test_waiting_ends_with_the_job(client: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submitted(client)
    waiting = asyncio.create_task(client.get(f"/jobs/{job_id}?wait=20"))
    lease = await claimed(store)
    started = time.monotonic()
    assert not waiting.done()
    assert await store.succeed(lease, RESULT)
    answer = await waiting
    assert answer.json()["status"] == "succeeded"
    assert time.monotonic() - started < 10


async def test_waiting_ends_with_the_wait(client: httpx.AsyncClient, store: JobStore) -> None:  # noqa: ARG001
    job_id = await submitted(client)
    started = time.monotonic()
    answer = await client.get(f"/jobs/{job_id}?wait=0.2")
    assert answer.json()["status"] == "queued"
    assert time.monotonic() - started >= 0.19


async def test_waiting_ends_before_the_time_limit(
    client: httpx.AsyncClient, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second before, or a tenth of it when that is less."""
    job_id = await submitted(client)
    wait, waited = store.wait, []

    async def at_once(job_id: str, seconds: float) -> Any:
        waited.append(seconds)
        return await wait(job_id, 0)

    monkeypatch.setattr(store, "wait", at_once)
    for limit in ("4000", "20000"):
        answer = await client.get(f"/jobs/{job_id}?wait=20", headers={"X-Request-Timeout-Ms": limit})
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert 0 < waited[0] <= 3.6
    assert 3.6 < waited[1] <= 19.5


@pytest.mark.parametrize("wait", ["30.01", "-1", "x", "nan", ""])
async def test_a_wait_that_is_none_is_refused(client: httpx.AsyncClient, wait: str) -> None:
    response = await client.get(f"{UNKNOWN}?wait={wait}")
    assert response.status_code == 400
    assert check_shape(response)["message"].startswith("wait: ")


async def test_waiting_ends_when_the_client_leaves(app: Starlette, client: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submitted(client)
    body, answer = Body(b""), Answer()
    began, ended = asyncio.Event(), asyncio.Event()
    wait = store.wait

    async def watched(*arguments: Any) -> Any:
        began.set()
        try:
            return await wait(*arguments)
        finally:
            ended.set()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "wait", watched)
        request = {**scope(f"/jobs/{job_id}", method="GET"), "query_string": b"wait=25"}
        task = asyncio.create_task(app(request, body, answer))
        await began.wait()
        body.gone.set()
        async with asyncio.timeout(60):
            await ended.wait()
            await task


async def test_waiting_ends_with_a_drain(client: httpx.AsyncClient, running: Api, store: JobStore) -> None:
    job_id = await submitted(client)
    handler = handler_of(running)
    waiting = asyncio.create_task(client.get(f"/jobs/{job_id}?wait=25"))
    try:
        async with asyncio.timeout(60):
            while not handler._waits:  # noqa: ASYNC110 - a set has no event
                await asyncio.sleep(0.002)
            handler.drain()
            answer = await waiting
            assert (await client.get(f"/jobs/{job_id}?wait=25")).status_code == 200
    finally:
        handler._draining = False
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert not handler._waits
    assert (await store.get(job_id)).status is Status.QUEUED


async def test_a_cancelled_job_never_runs(client: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submitted(client)
    answer = await client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert await store.claim("iris", "worker", limit=1) == []
    again = await client.delete(f"/jobs/{job_id}")
    assert again.status_code == 409
    assert check_shape(again)["code"] == "conflict"


async def test_the_result_of_a_cancelled_run_is_dropped(client: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submitted(client)
    lease = await claimed(store)
    assert (await client.delete(f"/jobs/{job_id}")).json()["status"] == "cancelled"
    assert not await store.succeed(lease, RESULT)
    assert (await client.get(f"/jobs/{job_id}")).json()["result"] is None


async def test_a_failed_job_says_why_and_can_be_tried_anew(client: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submitted(client)
    assert (await client.post(f"/jobs/{job_id}/retry")).status_code == 409
    await failed(store, job_id)
    answer = (await client.get(f"/jobs/{job_id}")).json()
    assert (answer["status"], answer["error"]) == ("failed", {"code": "internal_error", "message": "it broke"})
    again = await client.post(f"/jobs/{job_id}/retry", params={"ttl_seconds": "60"})
    assert again.status_code == 202
    assert again.headers["location"] == f"/jobs/{job_id}"
    assert again.json() == {"job_id": job_id, "status": "queued", "status_url": f"/jobs/{job_id}"}
    job = await store.get(job_id)
    assert job.attempts == 0
    assert 0 < job.expires_at - time.time() <= 61
    assert (await claimed(store)).job_id == job_id


async def test_a_job_that_waits_for_another_attempt_says_when(client: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submitted(client)
    assert await store.fail(await claimed(store), JobError("unavailable", "no"), retryable=True)
    answer = (await client.get(f"/jobs/{job_id}")).json()
    assert (answer["status"], answer["attempts"], answer["error"]["code"]) == ("queued", 1, "unavailable")
    assert answer["next_attempt_at"] > answer["created_at"]


async def test_jobs_are_listed_newest_first_in_pages(client: httpx.AsyncClient, store: JobStore) -> None:  # noqa: ARG001
    made = [await submitted(client) for _ in range(5)]
    await submitted(client, "inception_v3")
    params: dict[str, str] = {"status": "queued", "model": "iris", "limit": "2"}
    found: list[str] = []
    pages = 0
    while True:
        answer = (await client.get("/jobs", params=params)).json()
        found += [job["job_id"] for job in answer["jobs"]]
        pages += 1
        if answer["next"] is None:
            break
        params["after"] = answer["next"]
    assert found == made[::-1]
    assert pages == 3
    assert set(answer["jobs"][0]) & {"result", "position"} == set()
    assert (await client.get("/jobs?model=wine")).json() == {"jobs": [], "next": None}


@pytest.mark.parametrize(
    "query", ["status=done", "limit=0", "limit=201", "limit=x", "after=", "after=nonsense", "model=a/b", "model="]
)
async def test_a_filter_that_is_none_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/jobs?{query}")
    assert response.status_code == 400
    check_shape(response)


async def test_stats_are_by_model(client: httpx.AsyncClient, store: JobStore) -> None:
    await submitted(client)
    await submitted(client)
    (claim,) = await store.claim("iris", "worker", limit=1)
    stats = (await client.get("/jobs/stats")).json()["models"]["iris"]
    assert set(stats["counts"]) == set(Status)
    assert (stats["counts"]["queued"], stats["counts"]["running"], stats["queued_bytes"]) == (1, 1, len(claim.payload))
    assert stats["oldest_queued_seconds"] >= 0
    assert stats["finished_per_second"] >= 0


@pytest.mark.parametrize("wrong", ["x" * 65, "a.b", "%20", "%00", "ä", "stats/retry", "", "a%2Fb"])
async def test_what_is_no_id_is_404_without_asking_the_store(
    client: httpx.AsyncClient, store: JobStore, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    async def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the store was asked")

    for name in ("get", "wait", "cancel", "retry"):
        monkeypatch.setattr(store, name, asked)
    for response in (
        await client.get(f"/jobs/{wrong}", follow_redirects=True),
        await client.delete(f"/jobs/{wrong}", follow_redirects=True),
        await client.post(f"/jobs/{wrong}/retry"),
    ):
        if wrong or response.request.method == "POST":
            assert response.status_code == 404
            assert check_shape(response)["code"] == "not_found"


@pytest.mark.parametrize(("method", "path"), [("GET", UNKNOWN), ("GET", f"{UNKNOWN}?wait=5"), ("DELETE", UNKNOWN),
                                              ("POST", f"{UNKNOWN}/retry")])  # fmt: skip
async def test_an_unknown_job_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 404
    assert check_shape(response)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", UNKNOWN, "DELETE, GET, HEAD"),
        ("DELETE", "/jobs/stats", "GET, HEAD"),
        ("POST", "/jobs", "GET, HEAD"),
        ("GET", f"{UNKNOWN}/retry", "POST"),
        ("GET", "/iris/jobs", "POST"),
    ],
)
async def test_other_methods_are_405_and_all_that_are_allowed_are_named(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert allowed in check_shape(response)["message"]


async def test_metrics_know_routes_and_not_ids(client: httpx.AsyncClient, store: JobStore, metric: Any) -> None:  # noqa: ARG001
    job_id = await submitted(client)
    await client.get(f"/jobs/{job_id}")
    await client.get(UNKNOWN)
    await client.get("/jobs/a.b")
    await client.delete(f"/jobs/{job_id}")
    await client.post(f"/jobs/{job_id}/retry")
    series = metric("bentoml_service_request_total")
    endpoints = {name.split('endpoint="')[1].split('"')[0] for name in series}
    assert {each for each in endpoints if "jobs" in each} >= {"/jobs/{job_id}", "/jobs/{job_id}/retry", "/iris/jobs"}
    assert not any(job_id in name or "AAAA" in name or "a.b" in name for name in series)


async def test_a_job_is_no_line_in_the_log_of_predictions(
    client: httpx.AsyncClient,
    store: JobStore,  # noqa: ARG001
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "serving.prediction"):
        await submitted(client)
        await client.post("/iris/predict", content=VALID_BODY, headers=JSON)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["/iris/predict"]


async def test_every_answer_is_as_the_document_says(client: httpx.AsyncClient, store: JobStore) -> None:
    document = (await client.get("/docs.json")).json()

    def check(response: httpx.Response, path: str) -> None:
        operation = document["paths"][path][response.request.method.lower()]
        declared = operation["responses"][str(response.status_code)]
        schema = declared["content"]["application/json"]["schema"]
        jsonschema_rs.Draft202012Validator(
            {**schema, "components": document["components"]}, validate_formats=True
        ).validate(response.json())
        for name in declared["headers"]:
            if name == "Location":
                assert name in response.headers

    done, bad = await submitted(client), await submitted(client)
    assert await store.succeed(await claimed(store), RESULT)
    await failed(store, bad)
    image = await submitted(client, "inception_v3")
    best = {"label": "cat", "class_id": 1, "probability": 0.5}
    assert await store.succeed(await claimed(store, "inception_v3"), json.dumps({"predictions": [best]}).encode())
    for job_id in (done, bad, image, await submitted(client)):
        check(await client.get(f"/jobs/{job_id}"), "/jobs/{job_id}")
    check(await client.delete(f"/jobs/{done}"), "/jobs/{job_id}")
    check(await client.get(UNKNOWN), "/jobs/{job_id}")
    check(await client.get("/jobs"), "/jobs")
    check(await client.get("/jobs?limit=0"), "/jobs")
    check(await client.get("/jobs/stats"), "/jobs/stats")
    check(await client.post(f"/jobs/{bad}/retry"), "/jobs/{job_id}/retry")
    check(await client.post(f"/jobs/{done}/retry"), "/jobs/{job_id}/retry")
    check(await post(client), "/iris/jobs")
    check(await post(client, "inception_v3"), "/inception_v3/jobs")
    check(await post(client, content=b""), "/iris/jobs")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/iris/jobs?max_retry=1"),
        ("POST", "/iris/jobs?top_k=1"),
        ("GET", "/jobs?state=failed"),
        ("GET", "/jobs/stats?model=iris"),
        ("GET", "/jobs/unknown?waits=1"),
        ("DELETE", "/jobs/unknown?force=1"),
        ("POST", "/jobs/unknown/retry?max_retries=1"),
    ],
)
async def test_a_misspelt_parameter_is_not_ignored(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, json={"data": [[5.1, 3.5, 1.4, 0.2]]} if method == "POST" else None)
    assert answer.status_code == 400
    (detail,) = answer.json()["error"]["details"]
    assert detail["field"] == path.partition("?")[2].partition("=")[0]
