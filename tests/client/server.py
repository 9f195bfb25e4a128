"""The service over HTTP and gRPC, in a thread of this process, with models of its own and without runners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import uvicorn

from serving.settings.models import ModelSettings
from serving.store.models import StoredModel
from tests.served import Served, with_grpc
from tests.server import free_port


class Address(NamedTuple):
    """Where the two ports are."""

    url: str
    grpc: str


class _Http(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[object] | None = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        self.listens.set()


@contextmanager
def serve(stored: Iterable[StoredModel], *, default: str = "") -> Iterator[Address]:
    """Serve models under the names of their tags until the block ends."""
    entry = ModelSettings(predict_in="api")
    served = Served(((each.tag.partition(":")[0], each, entry) for each in stored), default=default)
    settings = with_grpc()
    port = free_port()
    http = _Http(uvicorn.Config(served.app, host="127.0.0.1", port=port, lifespan="off", log_level="warning"))

    async def run() -> None:
        rpc = served.grpc(settings)
        await rpc.start("127.0.0.1")
        await http.serve()
        await rpc.stop()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert http.listens.wait(60)
        yield Address(f"http://127.0.0.1:{port}", f"127.0.0.1:{settings.grpc.port}")
    finally:
        http.should_exit = True
        thread.join(60)
        served.close()
