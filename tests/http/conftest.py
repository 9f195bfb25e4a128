"""The real service as an ASGI application in this process, its runners called directly."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from serving.core.batcher import MicroBatcher
from serving.metrics import DROP_REASONS
from tests.held_engine import HeldEngine, Rows
from tests.process_state import kept_metrics, kept_process

Hold = Callable[..., HeldEngine]
Metric = Callable[[str], dict[str, float]]


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
        running = current_service()
        # A runner's start hook runs in its own process only; here it is an object of this one.
        for runner in (running.iris_runner, running.inception_v3_runner):
            runner.batcher.observer = running.metrics.batches(runner.model_name)
        yield app
        await lifespan.__aexit__(None, None, None)


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(app) as client:
        yield client


@pytest.fixture
def running(app: Starlette) -> Any:  # noqa: ARG001 - it runs the service
    """The instance of the service that `app` serves."""
    return current_service()


@pytest.fixture
async def without_data_plane(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the same application in which the declared methods answer everything."""
    from serving.http.dataplane import DataPlane

    slow = without_middleware(app, DataPlane)
    assert len(slow.user_middleware) == len(app.user_middleware) - 1
    async with make_client(slow) as client:
        yield client


@pytest.fixture
def hold(running: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    """Puts an engine that can be held behind a runner of this process: `hold("iris", max_queue_rows=1)`.

    For InceptionV3 it is quick and knows no image: all classes are equally probable.
    """
    held: list[HeldEngine] = []
    threads = ThreadPoolExecutor(2)

    def hold(model: str, *, predict: Callable[[Rows], Rows] | None = None, **options: Any) -> HeldEngine:
        runner = getattr(running, f"{model}_runner")
        if predict is None:
            predict = runner.engine.predict if model == "iris" else _equally_probable
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


def _equally_probable(images: Rows) -> Rows:
    return np.full((len(images), 1000), 0.001, np.float32)


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
    before = {(model, reason): count for model in ("iris", "inception_v3") for reason, count in read(model).items()}
    return read


@pytest.fixture
def metric(running: Any) -> Metric:
    """Samples of one metric by their labels, as `/metrics` shows them."""

    def read(name: str) -> dict[str, float]:
        text = running.metrics.render()[0].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return {series.removeprefix(name): float(value) for series, _, value in lines}

    return read


def make_client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def without_middleware(app: Starlette, kind: type) -> Starlette:
    """The same routes and the same running service behind one middleware less."""
    other = copy.copy(app)
    other.user_middleware = [middleware for middleware in app.user_middleware if middleware.cls is not kind]
    other.middleware_stack = None
    return other


def current_service() -> Any:
    import bentoml

    return bentoml.get_current_service()
