"""What an API worker holds: the models, the routes, and the services that the routes ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import bentoml
import msgspec
from starlette.middleware import Middleware

from serving.bento.internals import runner_addresses
from serving.bento.process import ServerProcess
from serving.bento.runners import API_NAME
from serving.bento.tensor_link import TensorClient
from serving.codecs.opening import open_codec
from serving.core.admission import Admission
from serving.core.engine import Engine
from serving.core.errors import NotFoundError, UnavailableError
from serving.core.tensors import Tensors
from serving.http.application import Application, HttpState
from serving.http.job_handler import JobsHandler
from serving.jobs.maintenance import Maintenance
from serving.jobs.store import open_store
from serving.metrics.inference import Statistics
from serving.model import Model, Models
from serving.placement import Submit, open_engine
from serving.settings import Settings, get_settings
from serving.settings.models import ModelSettings
from serving.store.models import open_model
from serving.table import Services, make_document, make_routes


class Api:
    """One API worker. Make it in a running loop.

    Args:
        runner: the runner of a name, where it is an object of this process.
    """

    def __init__(self, settings: Settings, *, runner: Callable[[str], Any]) -> None:
        self._settings = settings
        self._runner = runner
        self._clients: dict[str, TensorClient] = {}
        self._services = Services()
        self._maintenance: Maintenance | None = None
        self._grpc: Any = None

    async def start(self) -> None:
        """Load the models and open what the routes ask.

        Raises:
            ModelError: a model cannot be served.
        """
        settings = self._settings
        self.process = ServerProcess(settings, runner_name=API_NAME)
        self.metrics = self.process.metrics
        self.process.start_api(API_NAME)
        self.models = Models(
            [self._open(name, entry) for name, entry in settings.served.items()], default=settings.default_model
        )
        self._services.metrics = self.metrics
        self._services.ready = lambda: self.ready
        if settings.jobs.enabled:
            await self._start_jobs()
        if settings.batch.database_url:
            self._start_batch()
        if settings.grpc.enabled:
            await self._start_grpc()
        self.http = HttpState(
            make_routes(settings, self.models, self._services), self.metrics, lambda: self.process.drain.started
        )
        self.process.loaded()

    async def stop(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop()
        for client in self._clients.values():
            await client.close()
        for model in self.models:
            model.close()
        if self._services.batch is not None:
            self._services.batch.close()
        if self._maintenance is not None:
            await self._maintenance.stop()

    @property
    def ready(self) -> bool:
        """Whether this process accepts requests and every model answers its `/predict`."""
        return not self.process.drain.started and self.models.ready

    async def call(self, model: str, fields: Mapping[str, Any], *, batched: bool, label: bool) -> Any:
        """A prediction for code that calls the service through BentoML; the fields are those of the JSON body."""
        found = self.models.find(model)
        if label and not found.codec.has_labels:
            raise NotFoundError(f"model {model} has no labels")
        request = found.codec.from_fields(fields)
        tensors, _ = await found.in_thread(found.codec.tensors, request)
        outputs = await found.predict(tensors, _Unbounded(), batched=batched)
        answer = found.codec.label if label else found.codec.answer
        return msgspec.json.decode(answer(outputs, request))

    def _open(self, name: str, entry: ModelSettings) -> Model:
        stored = open_model(entry.tag)
        codec = open_codec(stored, entry)
        engine = None
        if entry.predict_in == "api":
            engine = open_engine(stored, entry)
            engine.warm_up(stored.sample)
        submit, available = self._submit_to(f"{entry.runner or name}_runner", name)
        self.metrics.serves(name, stored)
        return Model(
            name,
            codec,
            engine=engine,
            submit=submit,
            admission=Admission(codec.limits.max_in_flight, rejected=self.metrics.rejected(name, "queue_full")),
            statistics=self.metrics.statistics(name),
            runner_ready=available,
            draining=lambda: self.process.drain.started,
        )

    def _submit_to(self, runner: str, model: str) -> tuple[Submit, Callable[[], bool]]:
        """How tensors reach a runner: over its socket, or directly where it is an object of this process."""
        addresses = runner_addresses()
        if runner not in addresses:
            return partial(self._runner(runner).submit, model), lambda: True
        if runner not in self._clients:
            traced = self._settings.tracing.exporter != "none"
            self._clients[runner] = TensorClient(addresses[runner], traced=traced)
        client = self._clients[runner]
        return partial(client.submit, model), lambda: client.available

    async def _start_jobs(self) -> None:
        """The store may be away: its routes then answer 503, and the others go on."""
        store = open_store(self._settings.jobs)
        handler = JobsHandler(store, self._settings)
        self._services.jobs = handler
        self.process.drain.on_start.append(handler.drain)
        names = list(self._settings.served)
        self.metrics.jobs.serves(names)
        self._maintenance = Maintenance(store, tell=partial(self.metrics.jobs.stored, models=names))
        await self._maintenance.start()

    def _start_batch(self) -> None:
        """The database may be away, as the store of jobs may."""
        from serving.batch.database import Database
        from serving.http.batch_handler import BatchHandler

        settings = self._settings.batch
        database = Database(settings.database_url, schema=settings.database_schema, connections=4)
        self._services.batch = BatchHandler(database, self.models)

    async def _start_grpc(self) -> None:
        """The same models on a port of its own; the workers share it."""
        from serving.grpc.server import GrpcServer
        from serving.protocols.services import grpc_services

        def ready() -> bool:
            return self.ready

        services = grpc_services(self.models, metrics=self.metrics, ready=ready)
        self._grpc = GrpcServer(self._settings, services=services, metrics=self.metrics, ready=ready)
        self.process.drain.on_start.append(self._grpc.drain)
        await self._grpc.start(self.process.host)


class _Unbounded:
    """A call without a time limit."""

    size = "-"
    model: str | None = None

    def expires_in(self) -> float:
        return math.inf


def application() -> Middleware:
    """The application in front of BentoML's."""
    settings = get_settings()
    return Middleware(
        Application,
        state=lambda: bentoml.get_current_service().api.http,
        max_bytes=settings.api.max_request_bytes,
        time_limit=settings.server.request_timeout_seconds,
        log_predictions=settings.logging.predictions,
    )


def describe() -> dict[str, Any]:
    """The OpenAPI document of the configured server, from the stored models alone."""
    settings = get_settings()
    models = [_described(name, entry) for name, entry in settings.served.items()]
    return make_document(settings, Models(models, default=settings.default_model))


def _described(name: str, entry: ModelSettings) -> Model:
    """A model that can be described and not asked."""
    from prometheus_client import CollectorRegistry, Counter

    from serving.metrics.inference import InferenceMetrics

    registry = CollectorRegistry()

    async def submit(tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False) -> Tensors:  # noqa: ARG001
        raise _not_started()

    return Model(
        name,
        open_codec(open_model(entry.tag), entry),
        # Where the server has an engine decides what its routes may refuse.
        engine=_NoEngine() if entry.predict_in == "api" else None,
        submit=submit,
        admission=Admission(1, rejected=Counter("rejected", "-", registry=registry)),
        statistics=Statistics(name, InferenceMetrics(registry=registry)),
    )


class _NoEngine(Engine):
    """Stands for the engine of a server that has not been started."""

    def _call(self, tensors: Tensors) -> Tensors:  # noqa: ARG002
        raise _not_started()


def _not_started() -> UnavailableError:
    return UnavailableError("the server has not been started", retry_after=1)
