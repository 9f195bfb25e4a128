"""The runners as services of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest

from serving.bento.runners import make_runners
from serving.core.onnxruntime_engine import OnnxRuntimeEngine
from serving.core.tensors import Tensors, from_bytes, to_bytes
from serving.placement import open_engine
from serving.settings import Settings, get_settings
from serving.settings.models import ModelSettings
from serving.store.models import open_model
from tests.codecs.models import same
from tests.process_state import kept_metrics, kept_process

pytestmark = pytest.mark.anyio

SHARED = {
    "iris": ModelSettings(tag="iris:latest", runner="small", predict_in="api"),
    "more_iris": ModelSettings(tag="iris:latest", runner="small"),
    "inception_v3": ModelSettings(tag="inception_v3:latest"),
    "off": ModelSettings(tag="nothing:latest", enabled=False, runner="small"),
}


def shared() -> Settings:
    """Two models in one runner and a third in its own."""
    return get_settings().model_copy(update={"models": SHARED, "default_model": ""})


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def runner(model_store: Path) -> AsyncIterator[httpx.AsyncClient]:  # noqa: ARG001
    """A client of the application of a runner with two models, batching included."""
    service = make_runners(shared())["small_runner"]
    with kept_metrics():
        with kept_process():
            app = service.to_asgi(is_main=False)
            lifespan = app.router.lifespan_context(app)
            await lifespan.__aenter__()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            yield client
        await lifespan.__aexit__(None, None, None)


ROWS = {"features": np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]], np.float32)}


def row(index: int) -> Tensors:
    return {"features": ROWS["features"][index : index + 1]}


async def _post(runner: httpx.AsyncClient, tensors: Tensors, model: str = "iris", **headers: str) -> httpx.Response:
    return await runner.post(f"/tensors/{model}", content=to_bytes(tensors), headers=headers)


async def _ask(runner: httpx.AsyncClient, tensors: Tensors, **more: Any) -> Tensors:
    response = await _post(runner, tensors, **more)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream"), response.text
    return from_bytes(response.content)


def expected(tensors: Tensors) -> Tensors:
    engine = open_engine(open_model("iris:latest"), SHARED["iris"])
    assert isinstance(engine, OnnxRuntimeEngine)
    return engine.run(tensors)


@pytest.mark.parametrize("model", ["iris", "more_iris"])
async def test_every_model_of_a_runner_agrees_with_its_engine(runner: httpx.AsyncClient, model: str) -> None:
    for headers in ({}, {"x-alone": "1"}):
        assert same(await _ask(runner, ROWS, model=model, **headers), expected(ROWS))


async def test_models_that_share_a_runner_have_batchers_of_their_own(runner: httpx.AsyncClient) -> None:
    await _ask(runner, ROWS)
    models = bentoml.get_current_service().models
    assert list(models) == ["iris", "more_iris"], "the one that is switched off is not loaded"
    assert models["iris"].batcher is not models["more_iris"].batcher
    assert models["iris"].engine is not models["more_iris"].engine


@pytest.mark.parametrize("model", ["wine", "off", "inception_v3", "%00", "a/b"])
async def test_a_model_of_another_runner_is_not_found(runner: httpx.AsyncClient, model: str) -> None:
    response = await _post(runner, ROWS, model)
    assert (response.status_code, response.json()["code"]) == (422, "not_found")


async def test_callers_of_one_batch_get_their_own_rows(runner: httpx.AsyncClient) -> None:
    alone = [await _ask(runner, row(index), **{"x-alone": "1"}) for index in range(3)]
    indices = [index % 3 for index in range(60)]
    answers = await asyncio.gather(*(_ask(runner, row(index)) for index in indices))
    assert all(same(answer, alone[index]) for answer, index in zip(answers, indices, strict=True))


async def test_plain_requests_are_alone_and_batched_ones_together(runner: httpx.AsyncClient) -> None:
    for headers, batches in (({"x-alone": "1"}, 20), ({}, 1)):
        before = _batches()
        await asyncio.gather(*(_ask(runner, row(0), **headers) for _ in range(20)))
        after = _batches()
        assert after["_sum"] - before["_sum"] == 20
        assert after["_count"] - before["_count"] == batches


async def test_rows_whose_time_is_up_are_not_predicted(runner: httpx.AsyncClient) -> None:
    before = _batches()
    response = await _post(runner, ROWS, **{"x-expires-in-ms": "-1"})
    assert response.status_code == 422
    assert response.json()["code"] == "deadline_exceeded"
    assert _batches() == before


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 1000])
async def test_what_is_no_tensors_is_refused(runner: httpx.AsyncClient, content: bytes) -> None:
    response = await runner.post("/tensors/iris", content=content)
    assert (response.status_code, response.json()["code"]) == (422, "malformed_request")


def _batches() -> dict[str, float]:
    """Sum of rows and count of batches so far."""
    (metric,) = bentoml.get_current_service().process.metrics._batch_sizes.collect()
    return {end: sum(s.value for s in metric.samples if s.name.endswith(end)) for end in ("_sum", "_count")}


async def test_batch_sizes_are_measured(runner: httpx.AsyncClient) -> None:
    before = _batches()
    await _ask(runner, ROWS)
    after = _batches()
    assert {end: after[end] - before[end] for end in after} == {"_sum": 3, "_count": 1}


async def test_a_runner_has_the_lean_middleware_only() -> None:
    from _bentoml_impl.server.app import ContextMiddleware

    from serving.bento.tensor_link import TensorServer

    for service in make_runners(shared()).values():
        kinds = [middleware.cls for middleware in service.to_asgi(is_main=False).user_middleware]
        assert kinds == [TensorServer, ContextMiddleware]


def test_models_that_name_the_same_runner_share_it() -> None:
    services = make_runners(shared())
    assert list(services) == ["small_runner", "inception_v3_runner"]
    assert {name: list(service.inner.entries) for name, service in services.items()} == {
        "small_runner": ["iris", "more_iris"],
        "inception_v3_runner": ["inception_v3"],
    }


def test_a_shared_runner_has_the_most_processes_that_one_of_its_models_asks_for() -> None:
    models = {
        "a": ModelSettings(tag="iris:latest", runner="r", runner_workers=2),
        "b": ModelSettings(tag="iris:latest", runner="r", runner_workers=3),
        "c": ModelSettings(tag="iris:latest"),
    }
    services = make_runners(get_settings().model_copy(update={"models": models}))
    assert {name: service.config["workers"] for name, service in services.items()} == {"r_runner": 3, "c_runner": 1}


def test_the_models_are_packed_into_the_bento() -> None:
    packed = {name: [str(model.tag) for model in each.models] for name, each in make_runners(get_settings()).items()}
    assert packed == {"iris_runner": ["iris:latest"], "inception_v3_runner": ["inception_v3:latest"]}
