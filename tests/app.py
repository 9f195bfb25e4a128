"""Fixtures: the real service as an ASGI application in this process, its runners as objects.

A package of tests takes them over by importing `FIXTURES`' names into its conftest; the service then runs for as long
as the tests of that package do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from serving.core.batcher import MicroBatcher
from serving.core.tensors import Tensors, count
from serving.http.application import Application
from serving.metrics import DROP_REASONS
from tests.held_engine import HeldEngine
from tests.process_state import kept_metrics, kept_process

if TYPE_CHECKING:
    from serving.bento.api import Api
    from serving.bento.runners import ModelRunner

__all__ = ["anyio_backend", "app", "client", "drops", "hold", "metric", "queued", "running", "short_timeout"]

Hold = Callable[..., HeldEngine]
Metric = Callable[[str], dict[str, float]]
MODELS = ("iris", "inception_v3")


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
async def app(model_store: Path) -> AsyncIterator[Starlette]:  # noqa: ARG001 - the models have to be there
    """`service.svc`, started."""
    import service

    with kept_metrics():
        with kept_process():
            app = service.svc.to_asgi()
            lifespan = app.router.lifespan_context(app)
            await lifespan.__aenter__()
        api = current_api()
        # A runner's start hook runs in its own process only; here it is an object of this one.
        for model in MODELS:
            runner_of(model).batcher.observer = api.metrics.batches(model)
        yield app
        await lifespan.__aexit__(None, None, None)


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(app) as client:
        yield client


@pytest.fixture
def running(app: Starlette) -> Api:  # noqa: ARG001 - it runs the service
    """What the API worker that `app` is holds: `models`, `metrics`, `process`."""
    return current_api()


@pytest.fixture
async def short_timeout(app: Starlette, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests may take a quarter of a second."""
    await client.get("/health")
    monkeypatch.setattr(application(app), "_time_limit", 0.25)


@pytest.fixture
def hold(running: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    """Puts an engine that can be held behind a model's runner: `hold("iris", max_queue_rows=1)`.

    For InceptionV3 it is quick and knows no image: all classes are equally probable.
    """
    held: list[HeldEngine] = []
    threads = ThreadPoolExecutor(2)

    def hold(model: str, *, predict: Callable[[Tensors], Tensors] | None = None, **options: Any) -> HeldEngine:
        runner = runner_of(model)
        if predict is None:
            predict = runner.engine.run if model == "iris" else _equally_probable
        engine = HeldEngine(predict)
        batcher = MicroBatcher(engine, **({"max_batch_rows": 8, "max_queue_rows": 64} | options), executor=threads)
        batcher.observer = running.metrics.batches(model)
        monkeypatch.setattr(runner, "batcher", batcher)
        held.append(engine)
        return engine

    yield hold
    for engine in held:
        engine.release(1000)
    threads.shutdown()


def _equally_probable(images: Tensors) -> Tensors:
    outputs = runner_of("inception_v3").engine.signature.outputs
    return {outputs[0].name: np.full((count(images), 1000), 0.001, np.float32)}


@pytest.fixture
def queued(metric: Metric) -> Callable[[str, int], Awaitable[None]]:
    """Waits until so many rows wait for a model."""

    async def wait(model: str, rows: int) -> None:
        async with asyncio.timeout(60):
            while metric("serving_queue_depth")[f'{{model="{model}"}}'] != rows:  # noqa: ASYNC110 - a gauge has no event
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def drops(metric: Metric) -> Callable[[str], dict[str, float]]:
    """How many requests of a model were rejected since the test began, by reason."""

    def read(model: str) -> dict[str, float]:
        counts = metric("serving_rejected_total")
        return {
            reason: counts.get(f'{{model="{model}",reason="{reason}"}}', 0) - before.get((model, reason), 0)
            for reason in DROP_REASONS
        }

    before: dict[tuple[str, str], float] = {}
    before = {(model, reason): count for model in MODELS for reason, count in read(model).items()}
    return read


@pytest.fixture
def metric(running: Api) -> Metric:
    """Samples of one metric by their labels, as `/metrics` shows them."""

    def read(name: str) -> dict[str, float]:
        text = running.metrics.render()[0].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return {series.removeprefix(name): float(value) for series, _, value in lines}

    return read


def make_client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def application(app: Starlette) -> Application:
    """What stands in front of BentoML's application in `app`, which has answered a request."""
    found: Any = app.middleware_stack
    while not isinstance(found, Application):
        found = found.app
    return found


def current_service() -> Any:
    import bentoml

    return bentoml.get_current_service()


def current_api() -> Api:
    api: Api = current_service().api
    return api


def runner_of(model: str) -> ModelRunner:
    """The model behind its batcher, in the runner of its own."""
    runner: ModelRunner = getattr(current_service(), f"{model}_runner").models[model]
    return runner
