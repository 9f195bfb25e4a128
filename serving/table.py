"""All routes of a server, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import serving
from serving.http.client_schema import client_schema
from serving.http.job_handler import JobsHandler, make_limits
from serving.http.jobs import job_routes
from serving.http.models import default_routes, model_routes
from serving.http.openapi import document
from serving.http.pages import server_routes
from serving.http.routes import Route, Routes
from serving.inventory import built_service
from serving.metrics import Metrics
from serving.model import Models
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.http.batch_handler import BatchHandler

TITLE = "model_serving"
_TAGS = {
    "jobs": "Predictions that are asked for now and fetched later.",
    "batch": "Rows of a database and the runs that score them.",
    "open inference protocol": "The Open Inference Protocol (V2), as KServe, Triton and MLServer speak it.",
    "tensorflow serving": "TensorFlow Serving's REST API.",
    "infrastructure": "Health, metrics and what runs here.",
}
T = TypeVar("T")


@dataclass(slots=True)
class Services:
    """What routes ask beside the models; it is there once the server has started.

    Attributes:
        ready: whether the server answers predictions.
        jobs: `None` where jobs are off.
        batch: `None` without a database.
    """

    metrics: Metrics | None = None
    ready: Callable[[], bool] | None = None
    jobs: JobsHandler | None = None
    batch: BatchHandler | None = None

    def is_ready(self) -> bool:
        return self.ready is not None and self.ready()


def make_routes(settings: Settings, models: Models, services: Services) -> Routes:
    """The table of a server with `models`. What stands in `services` is asked at each request."""
    routes = _routes(settings, models, services)
    versions = [{"model": model.name, "version": str(model.version)} for model in models]
    return Routes(routes, examples=[*({"model": model.name} for model in models), *versions])


def make_document(settings: Settings, models: Models) -> dict[str, Any]:
    """The OpenAPI document of a server with `models`, which need not have engines."""
    return _document(_routes(settings, models, Services()), models)


def _document(routes: list[Route], models: Models) -> dict[str, Any]:
    names = ", ".join(model.name for model in models)
    # The version is known before the Bento is there: the document in it is the one that it answers.
    version = built_service().version or serving.__version__
    tags = {model.name: f"The model {model.name}." for model in models} | _TAGS
    return document(routes, title=TITLE, description=f"Predictions of the models {names}.", version=version, tags=tags)


def _routes(settings: Settings, models: Models, services: Services) -> list[Route]:
    def metrics() -> Metrics:
        return _there(services.metrics)

    routes = [route for model in models for route in model_routes(model)]
    if models.default is not None:
        routes += default_routes(models.default)
    if settings.jobs.enabled:
        routes += job_routes(models, lambda: _there(services.jobs), make_limits(settings))
    # What is switched off is not imported.
    if settings.protocols.v2:
        from serving.protocols.open_inference import rest as open_inference

        routes += open_inference.routes(models, ready=services.is_ready, metrics=metrics)
    if settings.protocols.tfserving:
        from serving.protocols.tfserving import rest as tfserving

        routes += tfserving.routes(models)
    if settings.batch.database_url:
        from serving.http.batch import batch_routes

        routes += batch_routes(models, lambda: _there(services.batch))
    routes += server_routes(metrics, lambda: _document(routes, models), lambda: client_schema(models))
    return routes


def _there(service: T | None) -> T:
    """What is there once the server has started, before the first request."""
    if service is None:
        raise RuntimeError("asked before the start of the server")
    return service
