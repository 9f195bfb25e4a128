"""The standard health service, `grpc.health.v1`: SERVING while predictions are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

_POLL_SECONDS = 0.1
_MOST_WATCHERS = 64
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """Asks for the state instead of being told: a runner may go and come back at any time.

    Args:
        services: names that may be asked for, beside the empty one, which is the whole server.
        ready: whether predictions are answered.
        draining: set once the server stops; those who watch are told and sent away, so that they hold up no stop.
    """

    def __init__(self, services: Collection[str], *, ready: Callable[[], bool], draining: asyncio.Event) -> None:
        self._services = {"", *services}
        self._ready = ready
        self._draining = draining
        self._watchers = 0

    def _state(self, service: str) -> Any:
        if service not in self._services:
            return _UNKNOWN
        return _SERVING if self._ready() and not self._draining.is_set() else _NOT_SERVING

    async def Check(self, request: Any, context: Any) -> Any:
        """The state of the server or of one of its services."""
        state = self._state(request.service)
        if state == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=state)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The state now and whenever it changes."""
        if self._watchers >= _MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many clients watch; use Check")
        self._watchers += 1
        try:
            told = None
            while True:
                ending = self._draining.is_set()
                state = self._state(request.service)
                if state != told:
                    yield health_pb2.HealthCheckResponse(status=state)
                    told = state
                if ending:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._draining.wait()
        finally:
            self._watchers -= 1
