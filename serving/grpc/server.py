"""The gRPC server of an API worker, in the event loop of its HTTP server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from serving.core.errors import ConfigurationError
from serving.grpc import health, reflection
from serving.grpc.calls import Calls, Service
from serving.grpc.port import address
from serving.metrics import Metrics
from serving.settings import Settings
from serving.settings.grpc import GrpcSettings

logger = logging.getLogger("serving.grpc")

_LARGEST_METADATA = 16 * 1024
_LEAST_PING_INTERVAL_MS = 1_000
"""Clients use 10 s and more; a ping each second costs next to nothing."""
_MOST_EARLY_PINGS = 4
"""In a row, without any data in between; the next one ends the connection."""


class GrpcServer:
    """All services on one port. Make and start it in a running loop.

    Args:
        services: by their full names (`serving.protocols.services`).
        ready: whether this server answers predictions.
    """

    def __init__(
        self, settings: Settings, *, services: Mapping[str, Service], metrics: Metrics, ready: Callable[[], bool]
    ) -> None:
        self._settings = settings.grpc
        self._drain_seconds = settings.server.drain_seconds
        self._draining = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self.port = 0
        """What it listens on, once started."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", settings.api.max_request_bytes),
                # An answer is as long as its request asks for.
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", _LARGEST_METADATA),
                # Clients ping to keep a connection through proxies that end idle ones. The library allows one ping in
                # five minutes between calls, and none more often than that; the third ends the connection.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_INTERVAL_MS),
                ("grpc.http2.max_ping_strikes", _MOST_EARLY_PINGS),
            ]
        )
        calls = Calls(
            metrics,
            timeout_seconds=settings.server.request_timeout_seconds,
            log_predictions=settings.logging.predictions,
            draining=self._draining,
            traced=settings.tracing.exporter != "none",
        )
        self._server.add_generic_rpc_handlers(tuple(calls.service(name, service) for name, service in services.items()))
        names = tuple(services)
        health_pb2_grpc.add_HealthServicer_to_server(
            health.Health(names, ready=ready, draining=self._draining), self._server
        )
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.Reflection((*names, health.NAME, reflection.NAME), draining=self._draining), self._server
        )

    async def start(self, host: str) -> None:
        """Listen on the settings' address, or on `host` where they name none.

        Raises:
            ConfigurationError: it cannot be listened on, or a file of the settings cannot be read.
        """
        where = address(self._settings.host or host, self._settings.port)
        credentials = _credentials(self._settings)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(where)
            else:
                self.port = self._server.add_secure_port(where, credentials)
        except RuntimeError as error:
            raise ConfigurationError(f"grpc: cannot listen on {where}") from error
        await self._server.start()
        logger.info("listening on %s, %s", where, "plain text" if credentials is None else "TLS")

    def drain(self) -> None:
        """Say that this server is not serving any more, accept nothing, and finish what was accepted."""
        if self._stopping is None:
            self._draining.set()
            self._stopping = asyncio.ensure_future(self._server.stop(self._drain_seconds))

    async def stop(self) -> None:
        """Drain, and wait for the end of it."""
        self.drain()
        if self._stopping is not None:
            await self._stopping


def _credentials(settings: GrpcSettings) -> Any:
    """What TLS needs, `None` without it."""
    if settings.certificate_file is None or settings.private_key_file is None:
        return None
    ca = None if settings.client_ca_file is None else _read(settings.client_ca_file)
    pair = (_read(settings.private_key_file), _read(settings.certificate_file))
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"grpc: {file} cannot be read: {error.strerror}") from error
