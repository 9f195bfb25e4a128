"""The entry service: every route of the API. `bentoml serve service:svc` starts it.

What a route does stands in `serving/api/`; what it may cost, in `configuration.yaml`.
"""

from __future__ import annotations

from functools import partial

import bentoml

from serving.configuration import require_settings

# Before what reads settings while it is imported: a wrong one ends in a line, not in a traceback.
settings = require_settings()

from serving.admission import Admission
from serving.api.app import ApiService
from serving.api.dataplane import DataPlane
from serving.api.inception_v3 import InceptionV3Handler
from serving.api.inference import serve_models
from serving.api.iris import IrisHandler
from serving.api.job_handler import JobsHandler
from serving.api.jobs import make_jobs
from serving.api.limits import BodyLimitMiddleware
from serving.api.middleware import RequestMiddleware, Routes
from serving.api.schemas import (
    Classification,
    ImageLabel,
    ImageRequest,
    IrisLabels,
    IrisProbabilities,
    IrisRequest,
    RankedImageRequest,
)
from serving.api.served_models import ServedModels
from serving.api.tfserving import make_tfserving
from serving.api.v2 import make_v2
from serving.api.views import make_views
from serving.engines import IrisEngine
from serving.grpc.port import reserve as reserve_port
from serving.job_worker import JobWorker
from serving.jobs.store import open_store
from serving.jobs.upkeep import Upkeep
from serving.models import open_model
from serving.process import ServerProcess
from serving.runners import API_NAME, InceptionV3Runner, IrisRunner, connect
from serving.server import (
    LocalModel,
    import_models,
    require_http_port,
    restart_processes_in_containers,
    server_config,
)
from serving.tensor_http import Submit, TensorClient


class IrisRoutes:
    """Species of iris flowers from four measurements."""

    iris_model = LocalModel(settings.iris.tag)
    iris_runner = bentoml.depends(IrisRunner)

    def start_iris(self, process: ServerProcess) -> None:
        model = open_model(settings.iris.tag)
        engine = IrisEngine(model, threads=settings.iris.threads)
        engine.warm_up()
        self.iris = IrisHandler(
            engine,
            batched=self.submit_to("iris_runner", classes=len(model.metadata.labels)),
            admission=Admission(settings.iris.max_in_flight, rejected=process.metrics.rejected("iris", "queue_full")),
        )
        process.metrics.serves("iris", model)

    @bentoml.api(route="/iris/predict", input_spec=IrisRequest, output_spec=IrisProbabilities)
    async def iris_predict(self, data):
        """Probabilities of the three species for each row."""
        return self.iris.predict(data)

    @bentoml.api(route="/iris/predict/label", input_spec=IrisRequest, output_spec=IrisLabels)
    async def iris_predict_label(self, data):
        """The most probable species for each row."""
        return self.iris.predict_labels(data)

    @bentoml.api(route="/iris/predict/batched", input_spec=IrisRequest, output_spec=IrisProbabilities)
    async def iris_predict_batched(self, data):
        """As `/iris/predict`, in one engine call with the requests that arrive at the same time."""
        return await self.iris.predict_batched(data)


class InceptionV3Routes:
    """Classes of images."""

    inception_v3_model = LocalModel(settings.inception_v3.tag)
    inception_v3_runner = bentoml.depends(InceptionV3Runner)

    def start_inception_v3(self, process: ServerProcess) -> None:
        model = open_model(settings.inception_v3.tag)
        self.inception_v3 = InceptionV3Handler(
            model,
            submit=self.submit_to("inception_v3_runner", classes=len(model.metadata.labels)),
            admission=Admission(
                settings.inception_v3.max_in_flight, rejected=process.metrics.rejected("inception_v3", "queue_full")
            ),
            settings=settings.inception_v3.image,
        )
        process.metrics.serves("inception_v3", model)

    @bentoml.api(route="/inception_v3/predict", input_spec=RankedImageRequest, output_spec=Classification)
    async def inception_v3_predict(self, image, top_k):
        """The most probable classes of an image, best first."""
        return await self.inception_v3.classify(image, top_k)

    @bentoml.api(route="/inception_v3/predict/label", input_spec=ImageRequest, output_spec=ImageLabel)
    async def inception_v3_predict_label(self, image):
        """The most probable class of an image."""
        return await self.inception_v3.label(image)

    @bentoml.api(route="/inception_v3/predict/batched", input_spec=RankedImageRequest, output_spec=Classification)
    async def inception_v3_predict_batched(self, image, top_k):
        """As `/inception_v3/predict`, in one engine call with the requests that arrive at the same time."""
        return await self.inception_v3.classify_batched(image, top_k)


class WithJobWorker:
    """Somebody has to do the jobs that are accepted: a process beside the API, unless workers are started apart."""

    job_worker = bentoml.depends(JobWorker)


ROUTES = [
    *([IrisRoutes] if settings.iris.enabled else []),
    *([InceptionV3Routes] if settings.inception_v3.enabled else []),
    *([WithJobWorker] if settings.jobs.has_embedded_worker else []),
]


@bentoml.service(name=API_NAME, service_class=ApiService, **server_config(settings, workers=settings.serving.workers))
class ModelServing(*ROUTES):
    """Iris species from measurements and image classes from InceptionV3."""

    @bentoml.on_deployment
    @staticmethod
    def supervise() -> None:
        """Runs once, in the supervisor, before it starts any process."""
        restart_processes_in_containers()
        require_http_port()
        import_models()
        if settings.grpc.enabled:
            reserve_port(settings.grpc)

    @bentoml.on_startup
    async def start(self) -> None:
        self.clients: dict[str, TensorClient] = {}
        self.process = ServerProcess(settings, runner_name=API_NAME)
        self.metrics = self.process.metrics
        self.process.start_api(API_NAME)
        if settings.iris.enabled:
            self.start_iris(self.process)
        if settings.inception_v3.enabled:
            self.start_inception_v3(self.process)
        self.served_models = ServedModels(
            serve_models(
                self,
                iris=settings.iris,
                inception_v3=settings.inception_v3,
                statistics=self.metrics.statistics,
                ready=lambda name: partial(self.is_ready, f"{name}_runner"),
            )
        )
        if settings.jobs.enabled:
            await self.start_jobs(self.process)
        if settings.batch.database_url:
            self.start_batch()
        if settings.grpc.enabled:
            await self.start_grpc(self.process)
        self.request_state = (self.metrics, self.routes())
        self.process.loaded()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        if settings.grpc.enabled:
            await self.grpc.stop()
        for client in self.clients.values():
            await client.close()
        if settings.batch.database_url:
            self.batch.close()
        if settings.jobs.enabled:
            await self.upkeep.stop()

    async def start_jobs(self, process: ServerProcess) -> None:
        """The store may be away: its routes then answer 503, and the others go on."""
        store = open_store(settings.jobs)
        self.jobs = JobsHandler(store, settings)
        process.drain.on_start.append(self.jobs.drain)
        models = [name for name in ("iris", "inception_v3") if getattr(settings, name).enabled]
        process.metrics.jobs.serves(models)
        self.upkeep = Upkeep(store, tell=partial(process.metrics.jobs.stored, models=models))
        await self.upkeep.start()

    def start_batch(self) -> None:
        """The database may be away, as the store of jobs may."""
        from serving.api.batch_handler import BatchHandler
        from serving.batch.database import Database

        self.batch = BatchHandler(Database(settings.batch.database_url, connections=4), models=frozenset(models))

    async def start_grpc(self, process: ServerProcess) -> None:
        """The same models on a port of its own; the workers share it."""
        # Here, because the supervisor and the runners import this module and do without gRPC.
        from serving.grpc.server import GrpcServer

        self.grpc = GrpcServer(settings, models=self.served_models, metrics=self.metrics, ready=self.__is_ready__)
        process.drain.on_start.append(self.grpc.drain)
        await self.grpc.start(process.host)

    def submit_to(self, runner: str, *, classes: int) -> Submit:
        """How rows reach a runner: over its socket, or directly where it is an object of this process."""
        client = connect(runner, classes=classes)
        if client is None:
            return getattr(self, runner).submit
        self.clients[runner] = client
        return client.submit

    def routes(self) -> Routes:
        """The templates of all routes and the model behind those that predict."""
        # The page and the document are BentoML's own routes and not in the document.
        paths = [*svc.openapi_spec.asdict()["paths"], "/", "/docs.json"]
        tags = {name: getattr(self, name).model.tag for name in ("iris", "inception_v3") if hasattr(self, name)}
        frequent = {
            template.format(model=name): template
            for name in tags
            for template in ("/v1/models/{model}:predict", "/v2/models/{model}/infer")
            if template in paths
        }
        return Routes(
            paths,
            {path: tag for name, tag in tags.items() for path in paths if path.startswith(f"/{name}/predict")},
            frequent=frequent,
        )

    def is_ready(self, *runners: str) -> bool:
        """Whether this process accepts requests and what it asks of the runners can be answered."""
        clients = (self.clients[name] for name in runners if name in self.clients)
        return not self.process.drain.started and all(client.available for client in clients)

    def __is_ready__(self) -> bool:
        return self.is_ready(*self.clients)


svc = ModelServing
if settings.jobs.enabled:
    svc.mount_asgi_app(make_jobs(settings))
models = [name for name in ("iris", "inception_v3") if getattr(settings, name).enabled]
if settings.protocols.v2:
    svc.mount_asgi_app(make_v2(*models))
if settings.protocols.tfserving:
    svc.mount_asgi_app(make_tfserving(*models))
if settings.batch.database_url:
    from serving.api.batch import make_batch  # SQLAlchemy takes its time, and most servers do without

    svc.mount_asgi_app(make_batch())
svc.mount_asgi_app(make_views(iris=settings.iris.enabled, inception_v3=settings.inception_v3.enabled))
svc.add_asgi_middleware(
    RequestMiddleware,
    state=lambda: bentoml.get_current_service().request_state,
    log_predictions=settings.logging.predictions,
)
if settings.iris.enabled and settings.api.data_plane:
    svc.add_asgi_middleware(
        DataPlane,
        handler=lambda: bentoml.get_current_service().iris,
        served=lambda: bentoml.get_current_service().served_models.get("iris"),
        v2=settings.protocols.v2,
        tfserving=settings.protocols.tfserving,
        max_bytes=settings.api.max_request_bytes,
        timeout_seconds=settings.serving.request_timeout_seconds,
    )
svc.add_asgi_middleware(BodyLimitMiddleware, max_bytes=settings.api.max_request_bytes)
