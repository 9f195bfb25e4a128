"""Connections to one server over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from serving.client.answers import ApiError, ClientError, UnreachableError
from serving.client.exchange import GrpcRequest
from serving.client.transport import Deadline

_REQUEST_ID = "x-request-id"
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Without any answer a call ends in one of these; the server's own answers of these codes have the id of the request.
_UNREACHABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
_OPTIONS = [("grpc.max_receive_message_length", -1)]


class _Address:
    def __init__(self, target: str, timeout: float) -> None:
        scheme, _, self.target = target.rpartition("://")
        if scheme not in ("", "http", "https"):
            raise ValueError("target: host:port is required; https:// before it is TLS")
        self._timeout = timeout
        self.is_secure = scheme == "https"

    def channel(self, kind: Any) -> Any:
        """`kind` is `grpc` or `grpc.aio`."""
        if self.is_secure:
            return kind.secure_channel(self.target, grpc.ssl_channel_credentials(), options=_OPTIONS)
        return kind.insecure_channel(self.target, options=_OPTIONS)

    def failure(self, error: Any) -> ClientError:
        """What a call that failed says. `error` is of either kind of call."""
        code = error.code()
        trailing = dict(error.trailing_metadata() or ())
        if code in _UNREACHABLE and _REQUEST_ID not in trailing:
            late = code == grpc.StatusCode.DEADLINE_EXCEEDED
            why = f"no answer within {self._timeout:g} s" if late else error.details()
            return UnreachableError(f"{self.target} cannot be reached: {why}")
        after = str(trailing.get("retry-after", ""))
        return ApiError(
            _STATUS.get(code, 500),
            code.name.lower(),
            error.details() or "an error without words",
            (),
            float(after) if after.isdigit() else None,
        )


class GrpcConnection:
    """Calls that block."""

    def __init__(self, target: str, timeout: float) -> None:
        self._address = _Address(target, timeout)
        self._channel = self._address.channel(grpc)

    def send(self, request: GrpcRequest, deadline: Deadline) -> bytes:
        try:
            answer: bytes = self._channel.unary_unary(request.path)(request.message, timeout=deadline.left())
        except grpc.RpcError as error:
            raise self._address.failure(error) from error
        return answer

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcConnection:
    """Calls as coroutines."""

    def __init__(self, target: str, timeout: float) -> None:
        self._address = _Address(target, timeout)
        self._channel = self._address.channel(grpc.aio)

    async def send(self, request: GrpcRequest, deadline: Deadline) -> bytes:
        try:
            answer: bytes = await self._channel.unary_unary(request.path)(request.message, timeout=deadline.left())
        except grpc.RpcError as error:
            raise self._address.failure(error) from error
        return answer

    async def close(self) -> None:
        await self._channel.close()
