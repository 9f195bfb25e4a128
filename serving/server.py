"""BentoML's server without what this project replaces or does not use."""

from __future__ import annotations

import errno
import math
import os
import socket
import sys
from typing import Any

import bentoml
import bentoml.serving
import click
from _bentoml_impl.server.app import ContextMiddleware, ServiceAppFactory
from bentoml._internal.bento.bento import BentoModelInfo
from bentoml.container import BentoMLContainer
from bentoml.exceptions import BentoMLException
from bentoml.models import BentoModel
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving.errors import ModelError
from serving.imported import imported_model
from serving.locked import locked_versions
from serving.model_source import prepare_models
from serving.models import check_versions, open_model
from serving.settings import Settings, get_settings


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
        "traffic": {"timeout": settings.serving.request_timeout_seconds},
        "metrics": {"enabled": False, "namespace": "bentoml_service"},
        "logging": {"access": {"enabled": False}},
        # BentoML's client of a runner closes its session after so many requests or seconds, with those that
        # are in flight on it: they would fail. A session is good for as long as the process.
        "runner_connection": {"max_requests": sys.maxsize, "max_age": math.inf},
        **({"tracing": tracing} if tracing else {}),
    }


def restart_processes_in_containers() -> None:
    """Let BentoML's supervisor replace a process that has died inside a container too.

    There it leaves that to the container engine, which sees the supervisor only: a killed runner would stay
    away for ever. Call it in the supervisor before it makes its watchers.
    """
    os.environ.pop("BENTOML_CONTAINERIZED", None)
    bentoml.serving.running_inside_container.cache_clear()


def require_http_port() -> None:
    """Call it in the supervisor before it starts any process.

    BentoML would find out later, and end in a traceback. It does not tell a service what it listens on: this asks the
    command line of `bentoml serve`, and where there is none, it leaves the port to BentoML.

    Raises:
        BentoMLException: the port cannot be had; `bentoml serve` prints the message and ends.
    """
    command = click.get_current_context(silent=True)
    if command is None or "port" not in command.params:
        return
    host = command.params["host"] or BentoMLContainer.http.host.get()
    port = command.params["port"] or BentoMLContainer.http.port.get()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As BentoML's own socket: a port that a server has just left can be had.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
            raise BentoMLException(
                f"http: port {port} on {host} {what}; set another one with --port, or PORT= of make serve; "
                "a second server needs another SERVING__GRPC__PORT, too"
            ) from error


def import_models() -> None:
    """Import the models of `models.source`, for every process of a server. Call it in the supervisor.

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
        try:
            model = open_model(str(self.tag))
            check_versions(model, strict=get_settings().serving.strict_versions)
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
        except ModelError as error:
            raise BentoMLException(str(error)) from error
        return super().to_info(alias)


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
