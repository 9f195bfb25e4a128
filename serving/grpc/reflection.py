"""The standard reflection service, by which tools such as grpcurl learn the methods and messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from serving.grpc.messages import POOL
from serving.grpc.stream import until

NAME: str = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name

for _file in (health_pb2, reflection_pb2):
    POOL.AddSerializedFile(_file.DESCRIPTOR.serialized_pb)


class Reflection:
    """The library's, from our descriptor pool.

    Args:
        services: full names of what there is.
        draining: set once the server stops; streams that are open end then, so that they hold up no stop.
    """

    def __init__(self, services: Collection[str], *, draining: asyncio.Event) -> None:
        self._library = ReflectionServicer(services, pool=POOL)
        self._draining = draining

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """One answer for each request of a stream."""
        async for answer in self._library.ServerReflectionInfo(until(self._draining, request_iterator), context):
            yield answer
