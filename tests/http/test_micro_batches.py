"""Requests that share engine calls, over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from serving.core.tensors import NOT_FINITE
from tests.app import Hold, Metric, runner_of
from tests.http.bodies import VALID_BODY
from tests.http.test_bad_input import check_shape
from tests.http.test_overload import IMAGE, ROWS

pytestmark = pytest.mark.anyio

BATCHED = "/iris/predict/batched"
Send = Callable[[list[list[float]]], asyncio.Task[httpx.Response]]


@pytest.fixture
def send(client: httpx.AsyncClient) -> Send:
    return lambda rows: asyncio.create_task(client.post(BATCHED, json={"data": rows}))


def rows(start: int, count: int = 1) -> list[list[float]]:
    return [[float(number), 3.5, 1.4, 0.2] for number in range(start, start + count)]


async def test_what_waits_shares_a_call_and_everybody_gets_their_own_rows(
    client: httpx.AsyncClient, hold: Hold, queued: Any, send: Send, metric: Metric
) -> None:
    def total(end: str) -> float:
        return sum(metric(f"bentoml_service_adaptive_batch_size_{end}").values())

    def waits() -> float:
        return metric("serving_queue_wait_seconds_count")['{model="iris"}']

    alone = [(await client.post("/iris/predict", json={"data": rows(n, 2)})).content for n in range(6)]
    engine = hold("iris", max_batch_rows=64)
    before = total("sum"), total("count"), waits()
    tasks = [send(rows(0, 2))]
    await engine.entered()
    tasks += [send(rows(number, 2)) for number in range(1, 6)]
    await queued("iris", 10)
    engine.release(2)
    answers = await asyncio.gather(*tasks)
    assert [answer.content for answer in answers] == alone
    assert engine.sizes == [2, 10]
    assert (total("sum"), total("count"), waits()) == (before[0] + 12, before[1] + 2, before[2] + 6)


async def test_a_request_larger_than_a_batch_comes_back_whole(
    client: httpx.AsyncClient, hold: Hold, queued: Any, send: Send
) -> None:
    expected = (await client.post("/iris/predict", json={"data": rows(0, 29)})).content
    engine = hold("iris", max_batch_rows=8)
    large = send(rows(0, 29))
    await engine.entered()
    small = send(rows(50))
    await queued("iris", 22)
    engine.release(3)
    assert (await small).status_code == 200
    assert not large.done(), "a small request does not wait for all of a large one"
    engine.release(9)
    assert (await large).content == expected
    assert engine.sizes == [8, 8, 8, 6]


def _broken_by(number: float, predict: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def broken(tensors: Any) -> Any:
        if (tensors["features"][:, 0] == number).any():
            raise RuntimeError("secret: the engine is broken")
        return predict(tensors)

    return broken


async def test_an_input_that_breaks_the_engine_fails_alone(
    client: httpx.AsyncClient,
    hold: Hold,
    queued: Any,
    send: Send,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = [(await client.post("/iris/predict", json={"data": rows(n)})).content for n in range(6)]
    engine = hold("iris", predict=_broken_by(66, runner_of("iris").engine.run), max_batch_rows=64)
    tasks = [send(rows(0))]
    await engine.entered()
    tasks += [send(rows(number)) for number in (1, 2)]
    await queued("iris", 2)
    bad = send([*rows(30), *rows(66)])
    await queued("iris", 4)
    tasks += [send(rows(number)) for number in (3, 4, 5)]
    await queued("iris", 7)
    engine.release(100)
    assert [answer.content for answer in await asyncio.gather(*tasks)] == alone
    answer = await bad
    assert answer.status_code == 500
    assert "secret" not in check_shape(answer)["message"]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == f"{BATCHED} failed request_id={answer.headers['x-request-id']}"
    assert (await client.post(BATCHED, **ROWS)).status_code == 200


async def test_values_that_are_too_large_are_reported_in_their_own_request_only(
    hold: Hold, queued: Any, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    predict = runner_of("iris").engine.run

    def overflowing(tensors: Any) -> Any:
        too_large = tensors["features"][:, :1] > 1e30
        return {name: np.where(too_large, np.float32("nan"), array) for name, array in predict(tensors).items()}

    engine = hold("iris", predict=overflowing, max_batch_rows=64)
    first = send(rows(0))
    await engine.entered()
    good = send(rows(1, 3))
    await queued("iris", 3)
    bad = send([*rows(1), [2e30, 0, 0, 0]])
    await queued("iris", 5)
    with caplog.at_level(logging.WARNING):
        engine.release(9)
        answer = await bad
    assert answer.status_code == 400
    assert check_shape(answer)["message"] == f"data[1]: {NOT_FINITE}"
    assert [(await each).status_code for each in (first, good)] == [200, 200]
    assert caplog.records == []


async def test_the_plain_image_route_shares_its_call_with_nobody(
    client: httpx.AsyncClient, hold: Hold, queued: Any
) -> None:
    engine = hold("inception_v3")
    tasks = [asyncio.create_task(client.post("/inception_v3/predict/batched", **IMAGE))]
    await engine.entered()
    order = ["predict/batched", "predict", "predict/batched", "predict/batched", "predict/label", "predict"]
    for waiting, route in enumerate(order, start=1):
        tasks.append(asyncio.create_task(client.post(f"/inception_v3/{route}", **IMAGE)))
        await queued("inception_v3", waiting)
    engine.release(9)
    assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
    assert engine.sizes == [1, 1, 1, 2, 1, 1]


async def test_the_plain_iris_routes_do_not_wait_for_the_runner(client: httpx.AsyncClient, hold: Hold) -> None:
    engine = hold("iris")
    waiting = asyncio.create_task(client.post(BATCHED, **ROWS))
    await engine.entered()
    for path in ("/iris/predict", "/iris/predict/label"):
        assert (await client.post(path, **ROWS)).status_code == 200
    assert not waiting.done()
    engine.release()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize(
    "more", [{}, {"X-Request-Timeout-Ms": "20000"}, {"content-type": "application/json; charset=utf-8"}]
)
async def test_every_form_of_a_request_shares_the_queue(
    client: httpx.AsyncClient, hold: Hold, queued: Any, more: dict[str, str]
) -> None:
    """Those that the quick decoder reads, and those that it leaves to the one that explains."""
    engine = hold("iris", max_batch_rows=200)
    headers = [ROWS["headers"], ROWS["headers"] | more] * 25
    tasks = [asyncio.create_task(client.post(BATCHED, content=VALID_BODY))]
    await engine.entered()
    tasks += [asyncio.create_task(client.post(BATCHED, content=VALID_BODY, headers=each)) for each in headers]
    await queued("iris", len(tasks) - 1)
    engine.release(2)
    answers = await asyncio.gather(*tasks)
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert engine.sizes == [1, len(tasks) - 1]
