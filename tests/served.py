"""Models served over HTTP and gRPC in this process, with batchers of their own in the place of runners."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from serving.codecs.opening import open_codec
from serving.core.admission import Admission
from serving.core.batcher import MicroBatcher
from serving.core.engine import Engine
from serving.core.tensors import Tensors
from serving.grpc.server import GrpcServer
from serving.http.application import Application, HttpState
from serving.http.table import Services, make_routes
from serving.metrics import Metrics
from serving.model import Model, Models
from serving.placement import open_engine
from serving.protocols.services import grpc_services
from serving.settings import Settings, get_settings
from serving.settings.grpc import GrpcSettings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from tests.held_engine import HeldEngine
from tests.server import free_port


class Served:
    """A server of some models.

    Args:
        stored: what is served under each name, and its entry.

    Attributes:
        draining: what a stop would set.
        batchers: of each model; a test may put another one there.
    """

    def __init__(self, stored: Iterable[tuple[str, StoredModel, ModelSettings]]) -> None:
        self.metrics = Metrics(
            service_name="test",
            service_version="1",
            runner_name="Api",
            duration_buckets=(0.1, 1.0),
            registry=CollectorRegistry(),
        )
        self.draining = False
        self.engines: dict[str, Engine] = {}
        self.batchers: dict[str, MicroBatcher] = {}
        self._threads = ThreadPoolExecutor(1)
        self.models = Models([self._open(*each) for each in stored])
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
        self.batchers[name] = self.batcher(name, engine.run, codec.limits.max_batch_rows, codec.limits.max_queue_rows)

        async def submit(tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False) -> Tensors:
            return await self.batchers[name].submit(tensors, expires_in=expires_in, alone=alone)

        return Model(
            name,
            codec,
            engine=engine if entry.predict_in == "api" else None,
            submit=submit,
            admission=Admission(codec.limits.max_in_flight, rejected=self.metrics.rejected(name, "queue_full")),
            statistics=self.metrics.statistics(name),
            draining=lambda: self.draining,
        )

    def batcher(
        self, name: str, predict: Callable[[Tensors], Tensors], rows: int, queue: int, *, threads: Any = None
    ) -> MicroBatcher:
        """One that the metrics of a model are told of."""
        signature = self.engines[name].signature
        batcher = MicroBatcher(
            predict,
            max_batch_rows=rows,
            max_queue_rows=queue,
            has_rows=signature.has_rows,
            varies=signature.varies,
            executor=threads or self._threads,
        )
        batcher.observer = self.metrics.batches(name)
        return batcher

    @property
    def ready(self) -> bool:
        return not self.draining and self.models.ready

    def probabilities(self, name: str, array: Any) -> NDArray[Any]:
        """What the engine says of its one input."""
        (spec,) = self.models[name].signature.inputs
        return self.engines[name].run({spec.name: np.asarray(array)})[self.models[name].metadata.scores]

    def pixels(self, name: str, *files: bytes) -> NDArray[Any]:
        """Image files as the engine takes them."""
        codec = self.models[name].codec
        return np.concatenate([codec._decode(file)[0][codec.signature.inputs[0].name] for file in files])  # type: ignore[attr-defined]

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test")

    def grpc(self, settings: Settings | None = None) -> GrpcServer:
        services = grpc_services(self.models, metrics=self.metrics, ready=lambda: self.ready)
        return GrpcServer(settings or with_grpc(), services=services, metrics=self.metrics, ready=lambda: self.ready)

    def close(self) -> None:
        for model in self.models:
            model.close()
        self._threads.shutdown()


def with_grpc(**changes: Any) -> Settings:
    """The settings with a gRPC port of its own, and with `changes` to its section."""
    return get_settings().model_copy(update={"grpc": GrpcSettings(port=free_port(), **changes)})


async def _nobody(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("BentoML's application is not here")


class Held:
    """Puts an engine that can be held behind the batcher of a model: `hold("iris", max_queue_rows=1)`.

    That of InceptionV3 is quick and knows no image: all classes are equally probable.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self._before: dict[str, MicroBatcher] = {}
        self._engines: list[HeldEngine] = []
        self._threads = ThreadPoolExecutor(2)

    def __call__(self, name: str, *, max_batch_rows: int = 8, max_queue_rows: int = 64) -> HeldEngine:
        predict = _equally_probable if name == "inception_v3" else self._served.engines[name].run
        engine = HeldEngine(predict)
        self._before.setdefault(name, self._served.batchers[name])
        self._served.batchers[name] = self._served.batcher(
            name, engine, max_batch_rows, max_queue_rows, threads=self._threads
        )
        self._engines.append(engine)
        return engine

    def close(self) -> None:
        self._served.batchers.update(self._before)
        for engine in self._engines:
            engine.release(1000)
        self._threads.shutdown()


def _equally_probable(tensors: Tensors) -> Tensors:
    (images,) = tensors.values()
    return {"probabilities": np.full((len(images), 1000), 0.001, np.float32)}
