"""Clients that predict, by any protocol and transport: `Predictor` blocks, `AsyncPredictor` does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote

import httpx

from serving.client.answers import ApiError, UnreachableError, read_json
from serving.client.predictions import FLOWS, METADATA, Ask, Flow, Inputs, Prediction
from serving.client.predictions import Protocol as ProtocolName

Transport = Literal["rest", "grpc"]
DEFAULT_TARGETS: dict[Transport, str] = {"rest": "127.0.0.1:3000", "grpc": "127.0.0.1:8500"}
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Backend(Protocol):
    """One protocol over one transport."""

    def predict(self, model: str, inputs: Inputs) -> list[Prediction]: ...
    def metadata(self, model: str) -> dict[str, Any]: ...
    def close(self) -> None: ...


class AsyncBackend(Protocol):
    """The same, as coroutines."""

    async def predict(self, model: str, inputs: Inputs) -> list[Prediction]: ...
    async def metadata(self, model: str) -> dict[str, Any]: ...
    async def close(self) -> None: ...


class Predictor:
    """Asks a server for predictions. `close` it, or use it in a `with` block.

    Args:
        target: `host:port`, or for REST a URL; by default this machine and the transport's usual port.
        protocol: `native` are the service's own routes, which only REST has.
        timeout: seconds for a call; the server is told, and drops what would be late.

    Every call raises UnreachableError when there is no answer in time, ApiError when the answer is an error, and
    ValueError for what cannot be asked.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        protocol: ProtocolName = "native",
        transport: Transport = "rest",
        timeout: float = 5.0,
    ) -> None:
        target = _checked(target, protocol, transport)
        self._backend: Backend
        if transport == "rest":
            self._backend = _Rest(target, protocol, timeout)
        else:
            from serving.client.grpc_backend import GrpcBackend  # gRPC is not worth its start where nobody asks for it

            self._backend = GrpcBackend(target, protocol, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._backend.close()

    def predict(
        self,
        model: str,
        *,
        rows: Sequence[Sequence[float]] = (),
        images: Sequence[bytes] = (),
        top_k: int | None = None,
    ) -> list[Prediction]:
        """A prediction for each row of measurements, or for each image file.

        Args:
            top_k: how many classes to name; all unless given.
        """
        return self._backend.predict(model, Inputs(rows, images, top_k))

    def metadata(self, model: str) -> dict[str, Any]:
        """What the protocol says of a model, as JSON."""
        return self._backend.metadata(model)


class AsyncPredictor:
    """As `Predictor`, for programs with an event loop."""

    def __init__(
        self,
        target: str | None = None,
        *,
        protocol: ProtocolName = "native",
        transport: Transport = "rest",
        timeout: float = 5.0,
    ) -> None:
        target = _checked(target, protocol, transport)
        self._backend: AsyncBackend
        if transport == "rest":
            self._backend = _AsyncRest(target, protocol, timeout)
        else:
            from serving.client.grpc_backend import AsyncGrpcBackend

            self._backend = AsyncGrpcBackend(target, protocol, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._backend.close()

    async def predict(
        self,
        model: str,
        *,
        rows: Sequence[Sequence[float]] = (),
        images: Sequence[bytes] = (),
        top_k: int | None = None,
    ) -> list[Prediction]:
        """See `Predictor.predict`."""
        return await self._backend.predict(model, Inputs(rows, images, top_k))

    async def metadata(self, model: str) -> dict[str, Any]:
        """See `Predictor.metadata`."""
        return await self._backend.metadata(model)


def _checked(target: str | None, protocol: ProtocolName, transport: Transport) -> str:
    if protocol not in FLOWS or transport not in DEFAULT_TARGETS:
        raise ValueError(f"there is no protocol {protocol} over {transport}")
    if transport == "grpc" and protocol == "native":
        raise ValueError("the native protocol has no gRPC; choose tfserving or v2")
    return target or DEFAULT_TARGETS[transport]


class _Exchange:
    """Requests of one protocol and what their answers mean."""

    def __init__(self, target: str, protocol: ProtocolName, timeout: float) -> None:
        try:
            url = httpx.URL(target if "://" in target else f"http://{target}")
        except httpx.InvalidURL as error:
            raise ValueError(f"target: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("target: host:port, or a URL with http or https, is required")
        # A password in the URL goes to the server and not into messages.
        self._shown = str(url.copy_with(userinfo=b"")).rstrip("/")
        self._timeout = timeout
        self._protocol = protocol
        # As `Transport` has them.
        self._options: dict[str, Any] = {"base_url": url, "verify": url.scheme == "https", "follow_redirects": False}

    def flow(self, model: str, inputs: Inputs) -> Flow:
        return FLOWS[self._protocol](model, inputs)

    def metadata_ask(self, model: str) -> Ask:
        return Ask("GET", METADATA[self._protocol].format(quote(model, safe="")))

    def arguments(self, ask: Ask, deadline: float) -> dict[str, Any]:
        """Of httpx' `request`.

        Raises:
            UnreachableError: the time is over.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise self.unreachable(TimeoutError(f"no answer within {self._timeout:g} s"))
        content = dict(ask.content)
        limit = {"X-Request-Timeout-Ms": str(max(1, min(int(left * 1e3), 999_999_999)))}
        content["headers"] = dict(content.get("headers", {})) | limit
        return {"method": ask.method, "url": ask.path, "timeout": left, **content}

    def deadline(self) -> float:
        return time.monotonic() + self._timeout

    def unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"{self._shown} cannot be reached: {str(error) or type(error).__name__}")

    @staticmethod
    def misshapen(response: httpx.Response) -> ApiError:
        return ApiError(response.status_code, "not_understood", f"the answer of {response.url.path} is no prediction")


class _Rest(_Exchange):
    def __init__(self, target: str, protocol: ProtocolName, timeout: float) -> None:
        super().__init__(target, protocol, timeout)
        self._http = httpx.Client(**self._options)

    def close(self) -> None:
        self._http.close()

    def predict(self, model: str, inputs: Inputs) -> list[Prediction]:
        flow, deadline = self.flow(model, inputs), self.deadline()
        ask = next(flow)
        while True:
            response = self._ask(ask, deadline)
            document = read_json(response)
            try:
                ask = flow.send(document)
            except StopIteration as done:
                found: list[Prediction] = done.value
                return found
            except _MISSHAPEN as error:
                raise self.misshapen(response) from error

    def metadata(self, model: str) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self._ask(self.metadata_ask(model), self.deadline()))
        return found

    def _ask(self, ask: Ask, deadline: float) -> httpx.Response:
        try:
            return self._http.request(**self.arguments(ask, deadline))
        except httpx.RequestError as error:
            raise self.unreachable(error) from error


class _AsyncRest(_Exchange):
    def __init__(self, target: str, protocol: ProtocolName, timeout: float) -> None:
        super().__init__(target, protocol, timeout)
        self._http = httpx.AsyncClient(**self._options)

    async def close(self) -> None:
        await self._http.aclose()

    async def predict(self, model: str, inputs: Inputs) -> list[Prediction]:
        flow, deadline = self.flow(model, inputs), self.deadline()
        ask = next(flow)
        while True:
            response = await self._ask(ask, deadline)
            document = read_json(response)
            try:
                ask = flow.send(document)
            except StopIteration as done:
                found: list[Prediction] = done.value
                return found
            except _MISSHAPEN as error:
                raise self.misshapen(response) from error

    async def metadata(self, model: str) -> dict[str, Any]:
        found: dict[str, Any] = read_json(await self._ask(self.metadata_ask(model), self.deadline()))
        return found

    async def _ask(self, ask: Ask, deadline: float) -> httpx.Response:
        try:
            return await self._http.request(**self.arguments(ask, deadline))
        except httpx.RequestError as error:
            raise self.unreachable(error) from error
