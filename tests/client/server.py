"""The service over HTTP and gRPC, in a thread of this process, with models of its own and without runners."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
def serve(
    stored: Iterable[StoredModel], *, default: str = "", tls: tuple[Path, Path] | None = None, ca: Path | None = None
) -> Iterator[Address]:
    """Serve models under the names of their tags until the block ends.

    Args:
        tls: certificate and key, for both ports.
        ca: of the clients that are let in.
    """
    entry = ModelSettings(predict_in="api")
    served = Served(((each.tag.partition(":")[0], each, entry) for each in stored), default=default)
    files = {} if tls is None else {"certificate_file": tls[0], "private_key_file": tls[1], "client_ca_file": ca}
    settings = with_grpc(**files)
    port = free_port()
    config = uvicorn.Config(
        served.app,
        host="127.0.0.1",
        port=port,
        lifespan="off",
        log_config=None,
        log_level="warning",
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and str(tls[1]),
        ssl_ca_certs=ca and str(ca),
        ssl_cert_reqs=ssl.CERT_NONE if ca is None else ssl.CERT_REQUIRED,
    )
    http = _Http(config)

    async def run() -> None:
        rpc = served.grpc(settings)
        await rpc.start("127.0.0.1")
        await http.serve()
        await rpc.stop()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert http.listens.wait(60)
        scheme, grpc = ("http", "") if tls is None else ("https", "https://")
        yield Address(f"{scheme}://127.0.0.1:{port}", f"{grpc}127.0.0.1:{settings.grpc.port}")
    finally:
        http.should_exit = True
        thread.join(60)
        served.close()
