"""Every private part of BentoML and its web server that this project relies on, and a check of what they are.

Their versions are pinned, so that nothing changes by itself. Whoever takes up another one sees here what to
look at, and the server says at its start which part is different instead of failing somewhere else.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import bentoml
import bentoml.serving
from _bentoml_impl.server.app import ContextMiddleware, ServiceAppFactory
from bentoml._internal.bento.bento import BentoModelInfo
from bentoml._internal.context import server_context
from bentoml.container import BentoMLContainer
from bentoml.exceptions import BentoMLException
from bentoml.models import BentoModel

__all__ = [
    "BentoMLContainer",
    "BentoMLException",
    "BentoModel",
    "BentoModelInfo",
    "ContextMiddleware",
    "ServiceAppFactory",
    "check_internals",
    "restart_processes_in_containers",
    "runner_addresses",
    "server_context",
    "use_http_protocol",
]

_HTTP_PROTOCOL = ("_should_upgrade", "_unset_keepalive_if_required", "data_received", "send_400_response")
"""What `serving.bento.http_protocol` overrides or calls."""
_CONTAINER_VARIABLE = "BENTOML_CONTAINERIZED"


def runner_addresses() -> dict[str, str]:
    """Where the runners listen, by name of their service; empty where they are objects of this process."""
    addresses: dict[str, str] = BentoMLContainer.remote_runner_mapping.get()
    return addresses


def restart_processes_in_containers() -> None:
    """Let BentoML's supervisor replace a process that has died inside a container too.

    There it leaves that to the container engine, which sees the supervisor only: a killed runner would stay
    away for ever. Call it in the supervisor before it makes its watchers.
    """
    os.environ.pop(_CONTAINER_VARIABLE, None)
    bentoml.serving.running_inside_container.cache_clear()


def use_http_protocol(name: str) -> None:
    """Let uvicorn speak HTTP through the class `module:Class` in this process, and no WebSockets.

    uvicorn has settings for both, which BentoML's workers leave at `auto`. Call it before uvicorn reads them.
    """
    import uvicorn.config  # what only API workers need, nobody else imports

    uvicorn.config.HTTP_PROTOCOLS["auto"] = name
    uvicorn.config.WS_PROTOCOLS["auto"] = None


def check_internals() -> None:
    """Compare the private parts with what this project expects of them. Call it in the supervisor.

    Raises:
        BentoMLException: names the parts that are different, and BentoML's version.
    """
    different = [name for name, is_as_expected in _expectations().items() if not is_as_expected]
    if different:
        raise BentoMLException(
            f"BentoML {bentoml.__version__} differs from the version this server was written for, in: "
            f"{', '.join(different)}; install the version that requirements/serve.lock has"
        )


def _expectations() -> dict[str, bool]:
    import uvicorn.config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    factory = ServiceAppFactory
    return {
        "ServiceAppFactory.__init__": {"service", "is_main"} <= set(_parameters(factory.__init__)),
        "ServiceAppFactory.__call__": callable(getattr(factory, "__call__", None)),  # noqa: B004
        "ServiceAppFactory.middlewares": isinstance(getattr(factory, "middlewares", None), property),
        "ContextMiddleware": inspect.isclass(ContextMiddleware),
        "Service.to_asgi": "is_main" in _parameters(getattr(bentoml.Service, "to_asgi", None)),
        "Service.inject_config": callable(getattr(bentoml.Service, "inject_config", None)),
        "Service.openapi_spec": hasattr(bentoml.Service, "openapi_spec"),
        "Service.add_asgi_middleware": callable(getattr(bentoml.Service, "add_asgi_middleware", None)),
        "BentoModel.resolve": callable(getattr(BentoModel, "resolve", None)),
        "BentoModel.to_info": "alias" in _parameters(getattr(BentoModel, "to_info", None)),
        "BentoModelInfo": inspect.isclass(BentoModelInfo),
        "server_context": all(hasattr(server_context, name) for name in ("bento_name", "bento_version")),
        "remote_runner_mapping": hasattr(BentoMLContainer, "remote_runner_mapping"),
        "BentoMLContainer.http": all(hasattr(BentoMLContainer.http, name) for name in ("host", "port")),
        "uvicorn.config": all("auto" in getattr(uvicorn.config, f"{name}_PROTOCOLS", ()) for name in ("HTTP", "WS")),
        "HttpToolsProtocol": all(hasattr(HttpToolsProtocol, name) for name in _HTTP_PROTOCOL),
        "running_inside_container": hasattr(getattr(bentoml.serving, "running_inside_container", None), "cache_clear"),
    }


def _parameters(function: Any) -> list[str]:
    """Names of the parameters; none of what is not there."""
    return list(inspect.signature(function).parameters) if callable(function) else []
