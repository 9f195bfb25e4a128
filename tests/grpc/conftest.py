"""The gRPC server of the real service in this process, its runners called directly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from serving.grpc.messages import INFERENCE, MODELS, POOL, PREDICTION, message
from serving.grpc.server import GrpcServer
from serving.protocols.services import grpc_services
from serving.settings import Settings, get_settings
from serving.settings.grpc import GrpcSettings
from tests.app import anyio_backend, app, client, drops, hold, metric, queued, running
from tests.server import free_port

__all__ = ["anyio_backend", "app", "client", "drops", "hold", "metric", "queued", "running"]

Ask = Callable[..., Awaitable[Any]]


def with_grpc(**changes: Any) -> Settings:
    """The settings with a gRPC port of its own, and with `changes` to its section."""
    return get_settings().model_copy(update={"grpc": GrpcSettings(port=free_port(), **changes)})


def make_server(running: Any, settings: Settings) -> GrpcServer:
    def ready() -> bool:
        return bool(running.ready)

    services = grpc_services(running.models, metrics=running.metrics, ready=ready)
    return GrpcServer(settings, services=services, metrics=running.metrics, ready=ready)


@pytest.fixture
async def server(running: Any) -> AsyncIterator[GrpcServer]:
    server = make_server(running, with_grpc())
    await server.start("127.0.0.1")
    yield server
    await server.stop()


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def method(channel: grpc.aio.Channel, name: str) -> Any:
    """A method of one of our services by its name, which no two of them share."""
    for service in (INFERENCE, PREDICTION, MODELS):
        described = POOL.FindServiceByName(service).methods_by_name.get(name)
        if described is not None:
            return channel.unary_unary(
                f"/{service}/{name}",
                request_serializer=lambda request: (
                    request if isinstance(request, bytes) else request.SerializeToString()
                ),
                response_deserializer=message(described.output_type.full_name).FromString,
            )
    raise LookupError(name)


@pytest.fixture
def ask(channel: grpc.aio.Channel) -> Ask:
    """`await ask("ModelInfer", request)`; a request may be bytes. Raises grpc.aio.AioRpcError."""

    async def ask(name: str, request: Any, **options: Any) -> Any:
        return await method(channel, name)(request, timeout=30, **options)

    return ask
