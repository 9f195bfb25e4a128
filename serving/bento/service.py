"""BentoML's service classes with this project's application in front, and without what it does not use.

BentoML offers `service_class` and builds the ASGI application in `to_asgi`. Its stock middleware labels metrics with
raw paths and leaves a timer behind for each request; `serving.http.application` does this work instead.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import bentoml
import yaml
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving.bento.internals import (
    BentoMLException,
    BentoModel,
    BentoModelInfo,
    ContextMiddleware,
    ServiceAppFactory,
    use_http_protocol,
)
from serving.core.errors import ModelError
from serving.placement import check_engine
from serving.settings import Settings, get_settings
from serving.settings.models import ModelSettings
from serving.store.imported import imported_model
from serving.store.lockfile import locked_versions
from serving.store.models import check_versions, open_model
from serving.store.source import prepare_models


def server_config(settings: Settings, *, workers: int = 1) -> dict[str, Any]:
    """The keyword arguments of `@bentoml.service` for a process of this server."""
    tracing: dict[str, Any] = {}
    if settings.tracing.exporter == "otlp":
        tracing = {
            "exporter_type": "otlp",
            "sample_rate": settings.tracing.sample_rate,
            "otlp": {"protocol": "http", "endpoint": settings.tracing.endpoint},
        }
    return {
        "workers": workers,
        "traffic": {"timeout": settings.server.request_timeout_seconds},
        "metrics": {"enabled": False, "namespace": "bentoml_service"},
        "logging": {"access": {"enabled": False}},
        # BentoML's client of a runner closes its session after so many requests or seconds, with those that
        # are in flight on it: they would fail. A session is good for as long as the process.
        "runner_connection": {"max_requests": sys.maxsize, "max_age": math.inf},
        **({"tracing": tracing} if tracing else {}),
    }


def import_models() -> None:
    """Import the models of `model_source.source`, for every process of a server. Call it in the supervisor.

    Raises:
        BentoMLException: they cannot be served; `bentoml serve` prints the message and ends.
    """
    try:
        prepare_models(get_settings())
    except ModelError as error:
        raise BentoMLException(str(error)) from error


class LocalModel(BentoModel):
    """A model that has to be in the store of this machine.

    BentoML's own reference asks BentoCloud for a missing model and then fails with what went wrong there.
    """

    def resolve(self, *args: Any, **kwargs: Any) -> bentoml.Model:
        """The stored model; BentoML calls it before it starts any process of a server.

        Raises:
            BentoMLException: it is missing or cannot be served; `bentoml serve` prints the message and ends.
        """
        import_models()
        settings = get_settings()
        try:
            model = open_model(str(self.tag))
            check_versions(model, strict=settings.server.strict_versions)
            for entry in self._entries():
                check_engine(entry.engine)
                _check_plugin(entry)
        except ModelError as error:
            raise BentoMLException(str(error)) from error
        if imported_model(self.tag.name):
            return bentoml.Model.from_path(model.path)
        return super().resolve(*args, **kwargs)

    def to_info(self, alias: str | None = None) -> BentoModelInfo:
        """What a Bento records of the model: its exact tag. BentoML calls it when it builds one.

        Raises:
            BentoMLException: the model is missing, or the libraries that the Bento would have contradict it.
        """
        try:
            check_versions(open_model(str(self.tag)), strict=True, locked=locked_versions())
            for entry in self._entries():
                # Of the Bento: BentoML imports what it packs.
                _check_plugin(entry)
        except ModelError as error:
            raise BentoMLException(str(error)) from error
        return super().to_info(alias)

    def _entries(self) -> list[ModelSettings]:
        return [entry for entry in get_settings().served.values() if entry.tag == str(self.tag)]


def _check_plugin(entry: ModelSettings) -> None:
    """Raises ModelError: the entry names a plug-in that cannot be used."""
    if entry.plugin:
        from serving.codecs.opening import load_plugin  # the supervisor starts sooner without

        load_plugin(entry.plugin)


class LeanAppFactory(ServiceAppFactory):
    """Without the stock middleware that this project replaces or does not use."""

    @property
    def middlewares(self) -> list[Middleware]:
        wanted: list[Any] = [cls for cls, _ in self.service.middlewares]
        wanted.append(ContextMiddleware)
        if get_settings().tracing.exporter != "none":
            wanted.append(OpenTelemetryMiddleware)
        return [middleware for middleware in super().middlewares if middleware.cls in wanted]


class LeanService(bentoml.Service[Any]):
    """A service behind the API."""

    def to_asgi(self, is_main: bool = True) -> Starlette:
        self.inject_config()
        return LeanAppFactory(self, is_main=is_main)()


_TRACING: Any = OpenTelemetryMiddleware


class ApiAppFactory(LeanAppFactory):
    """With this project's application in front of BentoML's."""

    def __call__(self) -> Starlette:
        from serving.http.errors import add_error_handlers

        app: Starlette = super().__call__()
        add_error_handlers(app)
        return app

    @property
    def middlewares(self) -> list[Middleware]:
        from serving.bento.api import application

        found = super().middlewares
        # Inside of tracing, outside of what only BentoML's own routes need.
        outer = [each for each in found if each.cls is _TRACING]
        return [*outer, application(), *(each for each in found if each.cls is not _TRACING)]


class ApiService(bentoml.Service[Any]):
    """The entry service. Only API workers build its application, and only they import what that needs."""

    def to_asgi(self, is_main: bool = True) -> Starlette:
        self.inject_config()
        use_http_protocol("serving.bento.http_protocol:HttpProtocol")
        return ApiAppFactory(self, is_main=is_main)()

    @property
    def openapi_spec(self) -> Document:
        """What BentoML writes into a Bento."""
        from serving.bento.api import describe

        return Document(describe())


@dataclass(frozen=True)
class Document:
    """The OpenAPI document; `asdict` is how BentoML asks for it."""

    content: dict[str, Any]

    def asdict(self) -> dict[str, Any]:
        return self.content


# As BentoML writes it into a Bento.
yaml.add_representer(Document, lambda dumper, document: dumper.represent_dict(document.content))
