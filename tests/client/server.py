"""The service over HTTP and gRPC, in a thread of this process, with models of its own and without runners."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import uvicorn
from prometheus_client import CollectorRegistry

from serving.codecs.opening import open_codec
from serving.core.admission import Admission
from serving.core.tensors import Tensors
from serving.grpc.server import GrpcServer
from serving.http.application import Application, HttpState
from serving.http.table import Services, make_routes
from serving.metrics import Metrics
from serving.model import Model, Models
from serving.placement import open_engine
from serving.protocols.services import grpc_services
from serving.settings import get_settings
from serving.settings.grpc import GrpcSettings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from tests.server import free_port


class Address(NamedTuple):
    """Where the two ports are."""

    url: str
    grpc: str


@contextmanager
def serve(stored: Iterable[StoredModel], *, default: str = "") -> Iterator[Address]:
    """Serve models under the names of their tags until the block ends."""
    metrics = Metrics(
        service_name="test",
        service_version="1",
        runner_name="Api",
        duration_buckets=(0.1, 1.0),
        registry=CollectorRegistry(),
    )
    models = Models([_open(each, metrics) for each in stored], default=default)
    settings = get_settings().model_copy(update={"grpc": GrpcSettings(port=free_port())})
    state = HttpState(make_routes(settings, models, Services(metrics=metrics, ready=lambda: True)), metrics)
    app = Application(
        _nobody,
        state=lambda: state,
        max_bytes=settings.api.max_request_bytes,
        time_limit=settings.server.request_timeout_seconds,
        log_predictions=False,
    )
    port = free_port()
    http = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_level="warning"))
    started = threading.Event()

    async def run() -> None:
        services = grpc_services(models, metrics=metrics, ready=lambda: True)
        rpc = GrpcServer(settings, services=services, metrics=metrics, ready=lambda: True)
        await rpc.start("127.0.0.1")
        serving = asyncio.ensure_future(http.serve())
        while not http.started and not serving.done():
            await asyncio.sleep(0.005)
        started.set()
        await serving
        await rpc.stop()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert started.wait(60)
        yield Address(f"http://127.0.0.1:{port}", f"127.0.0.1:{settings.grpc.port}")
    finally:
        http.should_exit = True
        thread.join(60)
        for model in models:
            model.close()


def _open(stored: StoredModel, metrics: Metrics) -> Model:
    name = stored.tag.partition(":")[0]
    entry = ModelSettings(predict_in="api")

    async def submit(tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False) -> Tensors:
        raise AssertionError("there is no runner")

    return Model(
        name,
        open_codec(stored, entry),
        engine=open_engine(stored, entry),
        submit=submit,
        admission=Admission(64, rejected=metrics.rejected(name, "queue_full")),
        statistics=metrics.statistics(name),
    )


async def _nobody(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("BentoML's application is not here")
