"""Connections to one server over gRPC."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from serving.client.answers import ApiError, ClientError, LostError, UnreachableError
from serving.client.exchange import GrpcRequest
from serving.client.failures import ENDED, meaning
from serving.client.forks import PerProcess
from serving.client.grpc_forks import GATE
from serving.client.proxies import is_loopback
from serving.client.tls import Tls
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
_MOST_CALLS = 64
"""Of one client at once; others wait."""
# With a pool of all channels a channel of a forked process would get the connections of its parent.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class _Target:
    def __init__(self, target: str, timeout: float, tls: Tls) -> None:
        scheme, _, address = target.rpartition("://")
        if scheme == "unix":
            scheme, address = "", f"unix://{address}"
        if scheme not in ("", "http", "https") or not address:
            raise ValueError("target: host:port is required; https:// before it is TLS")
        if scheme == "http" and tls.given:
            raise ValueError("target: certificates are for TLS; the address has to begin with https://")
        # The text may have a password in it, so it is not shown.
        if "@" in address and not address.startswith("unix:"):
            raise ValueError("target: gRPC has no user and password in its address")
        self.address = address if address.startswith("unix:") else address.rstrip("/")
        if "/" in self.address and not self.address.startswith("unix:"):
            raise ValueError(f"target: host:port without a path is required, not {self.address}")
        self._timeout = timeout
        self._tls = tls
        self._secure = scheme == "https" or tls.given
        self._options = list(_OPTIONS)
        if is_loopback(self.address.rpartition(":")[0].strip("[]")):
            self._options.append(("grpc.enable_http_proxy", 0))

    def open(self) -> grpc.Channel:
        if not self._secure:
            return grpc.insecure_channel(self.address, options=self._options)
        credentials = grpc.ssl_channel_credentials(*self._tls.pem)
        return grpc.secure_channel(self.address, credentials, options=self._options)

    def failure(self, error: Any) -> ClientError:
        """What a call that failed says."""
        code = error.code()
        trailing = dict(error.trailing_metadata() or ())
        if code in _UNREACHABLE and _REQUEST_ID not in trailing:
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                return UnreachableError(f"{self.address} cannot be reached: no answer within {self._timeout:g} s")
            text = error.details() or code.name.lower()
            why = meaning(text, secure=self._secure, certificate=self._tls.has_certificate)
            lost = "failed to connect" not in text and any(words in text for words in ENDED)
            kind = LostError if lost else UnreachableError
            return kind(f"{self.address} cannot be reached: {why}")
        after = str(trailing.get("retry-after", ""))
        return ApiError(
            _STATUS.get(code, 500),
            code.name.lower(),
            error.details() or "an error without words",
            (),
            float(after) if after.isdigit() else None,
        )


class _Connection:
    """A channel, opened with the first call."""

    def __init__(self, target: str, timeout: float, tls: Tls) -> None:
        self._target = _Target(target, timeout, tls)
        self._channel: PerProcess[Any] = PerProcess(self._target.open, keep=True)

    def _send(self, request: GrpcRequest, deadline: Deadline) -> bytes:
        with GATE.call():
            try:
                method = self._channel.get().unary_unary(request.path)
                answer: bytes = method(request.message, timeout=deadline.left())
            except grpc.RpcError as error:
                raise self._target.failure(error) from error
        return answer

    def _close(self) -> None:
        if (channel := self._channel.take()) is not None:
            channel.close()


class GrpcConnection(_Connection):
    """Calls that block."""

    def send(self, request: GrpcRequest, deadline: Deadline) -> bytes:
        return self._send(request, deadline)

    def close(self) -> None:
        self._close()


class AsyncGrpcConnection(_Connection):
    """Calls as coroutines, which wait for threads of their own.

    The library's own calls for event loops keep a thread inside of it for as long as a channel is open, and then
    crash forked children now and again.
    """

    def __init__(self, target: str, timeout: float, tls: Tls) -> None:
        super().__init__(target, timeout, tls)
        self._threads = PerProcess(lambda: ThreadPoolExecutor(_MOST_CALLS), keep=True)

    async def send(self, request: GrpcRequest, deadline: Deadline) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads.get(), self._send, request, deadline)

    async def close(self) -> None:
        if (threads := self._threads.take()) is not None:
            threads.shutdown(wait=False)
        self._close()
