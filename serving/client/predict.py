"""Clients that predict, by any protocol and transport: `Predictor` blocks, `AsyncPredictor` does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self

from serving.client.answers import ApiError, LostError
from serving.client.connections import AsyncHttpConnection, HttpConnection
from serving.client.description import Description
from serving.client.exchange import Dialect, Exchange, Request, T, run, run_async
from serving.client.inputs import Image, Inputs, Rows, Tensors
from serving.client.native import Native
from serving.client.open_inference import OpenInferenceHttp
from serving.client.predictions import Prediction, ProtocolName
from serving.client.tfserving import TfservingHttp
from serving.client.tls import File, Tls
from serving.client.transport import Deadline

Transport = Literal["rest", "grpc"]
DEFAULT_TARGETS: dict[Transport, str] = {"rest": "127.0.0.1:3000", "grpc": "127.0.0.1:8500"}
_HTTP: dict[str, type[Dialect]] = {"native": Native, "tfserving": TfservingHttp, "v2": OpenInferenceHttp}


class _Connection(Protocol):
    def send(self, request: Any, deadline: Deadline) -> Any: ...
    def close(self) -> Any: ...


class _Conversation(ABC):
    """What both clients ask; they differ in how they send."""

    def __init__(
        self,
        target: str | None = None,
        *,
        protocol: ProtocolName = "native",
        transport: Transport = "rest",
        timeout: float = 5.0,
        tls_ca: File | None = None,
        tls_cert: File | None = None,
        tls_key: File | None = None,
    ) -> None:
        if protocol not in _HTTP or transport not in DEFAULT_TARGETS:
            raise ValueError(f"there is no protocol {protocol} over {transport}")
        if transport == "grpc" and protocol == "native":
            raise ValueError("the native protocol has no gRPC; choose tfserving or v2")
        self._timeout = timeout
        self._dialect = _HTTP[protocol]() if transport == "rest" else _grpc_dialect(protocol)
        self._connection = self._connect(
            transport, target or DEFAULT_TARGETS[transport], timeout, Tls(tls_ca, tls_cert, tls_key)
        )
        self._descriptions: dict[str, Description] = {}

    @abstractmethod
    def _connect(self, transport: Transport, target: str, timeout: float, tls: Tls) -> _Connection:
        """How this client sends."""

    def _describe(self, model: str) -> Exchange[Description]:
        """Asked once for each model."""
        found = self._descriptions.get(model)
        if found is None:
            found = self._descriptions[model] = yield from self._dialect.describe(model)
        return found

    def _predict(self, model: str, inputs: Inputs) -> Exchange[list[Prediction]]:
        description = yield from self._describe(model)
        found = yield from self._dialect.predict(description, inputs)
        wanted = len(inputs.rows) or len(inputs.images) or 1
        if len(found) != wanted:
            raise ApiError(200, "not_understood", f"the server answered {len(found)} predictions instead of {wanted}")
        return found


def _grpc_dialect(protocol: ProtocolName) -> Dialect:
    # gRPC is not worth its start where nobody asks for it.
    from serving.client.grpc_dialects import OpenInferenceGrpc, TfservingGrpc

    return OpenInferenceGrpc() if protocol == "v2" else TfservingGrpc()


class Predictor(_Conversation):
    """Asks a server for predictions. `close` it, or use it in a `with` block.

    Args:
        target: `host:port`, with `https://` before it for TLS; for REST a URL, with a path where the service stands
            below one; or `unix:/path/of/socket`. By default this machine and the transport's usual port.
        protocol: `native` are the service's own routes, which only REST has.
        timeout: seconds for a call; the server is told, and drops what would be late.
        tls_ca: PEM file of the authorities that are trusted in the place of the usual ones.
        tls_cert, tls_key: PEM files of the client's certificate and its key, where the server asks for one.

    It may be shared by threads, and by processes that are forked: each process has its own connections.

    What a model takes and gives is asked once; make another client when the server has another version.

    Every call raises UnreachableError when there is no answer in time, ApiError when the answer is an error, and
    ValueError for what cannot be asked.
    """

    def _connect(self, transport: Transport, target: str, timeout: float, tls: Tls) -> _Connection:
        if transport == "rest":
            return HttpConnection(target, timeout, tls)
        from serving.client.grpc_connections import GrpcConnection

        return GrpcConnection(target, timeout, tls)

    def _run(self, exchange: Exchange[T]) -> T:
        deadline = Deadline.after(self._timeout)
        return run(exchange, lambda request: self._send(request, deadline))

    def _send(self, request: Request, deadline: Deadline) -> Any:
        try:
            return self._connection.send(request, deadline)
        except LostError:  # it may have been idle for too long; whatever is asked here may be asked twice
            return self._connection.send(request, deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def predict(
        self,
        model: str,
        *,
        rows: Rows = (),
        image: Image | None = None,
        images: Sequence[Image] = (),
        tensors: Tensors | None = None,
        top_k: int | None = None,
    ) -> list[Prediction]:
        """A prediction for each row or each image file, or one for the tensors; by the kind of the model.

        Args:
            rows: lists of values, records by column name, a NumPy array `[N, columns]` or a DataFrame; `None` and, in
                arrays and DataFrames, NaN are missing values.
            image, images: bytes of image files, paths, open binary files or images of Pillow.
            tensors: arrays or nested lists by the name of the input.
            top_k: how many classes to name; all unless given.

        Raises:
            OSError: an image file cannot be read.
        """
        return self._run(self._predict(model, Inputs.of(rows, image, images, tensors, top_k)))

    def describe(self, model: str) -> Description:
        """What the model takes and gives."""
        return self._run(self._describe(model))

    def default_model(self) -> str:
        """The server's model that is meant where none is named. Raises ValueError, with the names, if there is none."""
        return self._run(self._dialect.default_model())

    def metadata(self, model: str) -> dict[str, Any]:
        """What the protocol says of a model, as JSON."""
        return self._run(self._dialect.metadata(model))


class AsyncPredictor(_Conversation):
    """As `Predictor`, for programs with an event loop."""

    def _connect(self, transport: Transport, target: str, timeout: float, tls: Tls) -> _Connection:
        if transport == "rest":
            return AsyncHttpConnection(target, timeout, tls)
        from serving.client.grpc_connections import AsyncGrpcConnection

        return AsyncGrpcConnection(target, timeout, tls)

    async def _run(self, exchange: Exchange[T]) -> T:
        deadline = Deadline.after(self._timeout)
        return await run_async(exchange, lambda request: self._send(request, deadline))

    async def _send(self, request: Request, deadline: Deadline) -> Any:
        try:
            return await self._connection.send(request, deadline)
        except LostError:  # as in `Predictor`
            return await self._connection.send(request, deadline)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    async def predict(
        self,
        model: str,
        *,
        rows: Rows = (),
        image: Image | None = None,
        images: Sequence[Image] = (),
        tensors: Tensors | None = None,
        top_k: int | None = None,
    ) -> list[Prediction]:
        """See `Predictor.predict`."""
        return await self._run(self._predict(model, Inputs.of(rows, image, images, tensors, top_k)))

    async def describe(self, model: str) -> Description:
        """See `Predictor.describe`."""
        return await self._run(self._describe(model))

    async def default_model(self) -> str:
        """See `Predictor.default_model`."""
        return await self._run(self._dialect.default_model())

    async def metadata(self, model: str) -> dict[str, Any]:
        """See `Predictor.metadata`."""
        return await self._run(self._dialect.metadata(model))
