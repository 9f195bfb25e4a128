"""The entry service, made from the settings: the methods, runners and models of whatever is configured.

BentoML finds the parts of a service in its class while it is decorated. The class is a pure function of the settings,
so that every process makes the same one. `serving.http.application` answers every request over HTTP; the declared
methods are for code that calls the service through BentoML.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import bentoml
from pydantic import BaseModel, ConfigDict

from serving.bento.http_port import require_http_port
from serving.bento.internals import BentoMLException, check_internals, restart_processes_in_containers
from serving.bento.runners import API_NAME, make_runners
from serving.bento.service import ApiService, LocalModel, import_models, server_config
from serving.core.errors import ConfigurationError
from serving.grpc.port import reserve as reserve_port
from serving.jobs.store import open_store
from serving.settings import Settings, get_settings

if TYPE_CHECKING:
    from serving.bento.api import Api


class AnyRequest(bentoml.IODescriptor):
    """The fields of a request's JSON body; what they are, only the stored model says."""

    model_config = ConfigDict(extra="allow")


class AnyAnswer(BaseModel):
    """The fields of an answer."""

    model_config = ConfigDict(extra="allow")


class _Entry:
    """What the class of the entry service has beside the methods of models."""

    settings: Settings
    api: Api

    @bentoml.on_deployment
    @staticmethod
    def supervise() -> None:
        """Runs once, in the supervisor, before it starts any process."""
        settings = get_settings()
        check_internals()
        restart_processes_in_containers()
        require_http_port()
        try:
            if settings.batch.database_url:
                _require_database(settings)
            import_models()
            if settings.grpc.enabled:
                reserve_port(settings.grpc)
            if settings.jobs.enabled:
                open_store(settings.jobs)  # not opened yet: a URL or file that cannot be used shows here
        except ConfigurationError as error:
            # `bentoml serve` prints the message and ends.
            raise BentoMLException(str(error)) from error

    @bentoml.on_startup
    async def start(self) -> None:
        from serving.bento.api import Api

        self.api = Api(self.settings, runner=partial(getattr, self))
        await self.api.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.api.stop()

    def __is_ready__(self) -> bool:
        return self.api.ready


def _require_database(settings: Settings) -> None:
    """Raises ConfigurationError unless the URL of the rows can be used; the database itself may be away."""
    from serving.batch.database import Database

    Database(settings.batch.database_url, schema=settings.batch.database_schema).close()


def make_entry(settings: Settings) -> Any:
    """The class of the entry service, for `bentoml.service(…)`; see `entry_options`."""
    namespace: dict[str, Any] = {
        "__doc__": f"Predictions of the models {', '.join(settings.served)}.",
        "settings": settings,
    }
    for name, entry in settings.served.items():
        namespace[f"{name}_model"] = LocalModel(entry.tag)
        for method in (
            _declare(name, "predict"),
            _declare(name, "predict/batched", batched=True),
            _declare(name, "predict/label", label=True),
        ):
            namespace[method.name] = method
    namespace |= {name: bentoml.depends(service) for name, service in make_runners(settings).items()}
    if settings.jobs.has_embedded_worker:
        from serving.bento.job_worker import JobWorker

        # Some process has to do the jobs that are accepted, unless workers are started apart.
        namespace["job_worker"] = bentoml.depends(JobWorker)
    return type("ModelServing", (_Entry,), namespace)


def entry_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments of `bentoml.service` for the entry service."""
    return {
        "name": API_NAME,
        "service_class": ApiService,
        **server_config(settings, workers=settings.server.workers),
    }


def _declare(model: str, path: str, *, batched: bool = False, label: bool = False) -> Any:
    async def predict(self: _Entry, **fields: Any) -> AnyAnswer:
        return AnyAnswer.model_validate(await self.api.call(model, fields, batched=batched, label=label))

    predict.__name__ = predict.__qualname__ = f"{model}_{path.replace('/', '_')}"
    predict.__doc__ = f"What `POST /{model}/{path}` answers."
    return bentoml.api(route=f"/{model}/{path}", input_spec=AnyRequest, output_spec=AnyAnswer)(predict)
