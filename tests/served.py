"""Models served over HTTP and gRPC in this process, with batchers of their own in the place of runners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from serving.codecs.opening import open_codec
from serving.core.admission import Admission
from serving.core.batcher import MicroBatcher
from serving.core.engine import Engine
from serving.core.tensors import Tensors
from serving.grpc.server import GrpcServer
from serving.http.application import Application, HttpState
from serving.metrics import Metrics
from serving.model import Model, Models
from serving.placement import open_engine
from serving.protocols.services import grpc_services
from serving.settings import Settings, get_settings
from serving.settings.grpc import GrpcSettings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from serving.table import Services, make_routes
from tests.server import free_port


class Served:
    """A server of some models.

    Args:
        stored: what is served under each name, and its entry.
        default: name of the model that routes without a name ask.

    Attributes:
        draining: what a stop would set.
    """

    def __init__(self, stored: Iterable[tuple[str, StoredModel, ModelSettings]], *, default: str = "") -> None:
        self.metrics = Metrics(
            service_name="test",
            service_version="1",
            runner_name="Api",
            duration_buckets=(0.1, 1.0),
            registry=CollectorRegistry(),
        )
        self.draining = False
        self.engines: dict[str, Engine] = {}
        self.models = Models([self._open(*each) for each in stored], default=default)
        services = Services(metrics=self.metrics, ready=lambda: self.ready)
        settings = get_settings()
        self.app = Application(
            _nobody,
            state=lambda: HttpState(make_routes(settings, self.models, services), self.metrics),
            max_bytes=settings.api.max_request_bytes,
            time_limit=settings.server.request_timeout_seconds,
            log_predictions=True,
        )

    def _open(self, name: str, stored: StoredModel, entry: ModelSettings) -> Model:
        codec = open_codec(stored, entry)
        engine = self.engines[name] = open_engine(stored, entry)
        signature = engine.signature
        batcher = MicroBatcher(
            engine.run,
            max_batch_rows=codec.limits.max_batch_rows,
            max_queue_rows=codec.limits.max_queue_rows,
            has_rows=signature.has_rows,
            varies=signature.varies,
        )

        return Model(
            name,
            codec,
            engine=engine if entry.predict_in == "api" else None,
            submit=batcher.submit,
            admission=Admission(codec.limits.max_in_flight, rejected=self.metrics.rejected(name, "queue_full")),
            statistics=self.metrics.statistics(name),
            draining=lambda: self.draining,
        )

    @property
    def ready(self) -> bool:
        return not self.draining and self.models.ready

    def run(self, name: str, tensors: Tensors) -> Tensors:
        """What the engine says."""
        return self.engines[name].run(tensors)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test")

    def grpc(self, settings: Settings | None = None) -> GrpcServer:
        services = grpc_services(self.models, metrics=self.metrics, ready=lambda: self.ready)
        return GrpcServer(settings or with_grpc(), services=services, metrics=self.metrics, ready=lambda: self.ready)

    def close(self) -> None:
        for model in self.models:
            model.close()


def with_grpc(**changes: Any) -> Settings:
    """The settings with a gRPC port of its own, and with `changes` to its section."""
    return get_settings().model_copy(update={"grpc": GrpcSettings(port=free_port(), **changes)})


async def _nobody(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("BentoML's application is not here")
