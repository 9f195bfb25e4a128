"""Connections to one server over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from serving.client.address import Address
from serving.client.answers import UnreachableError
from serving.client.exchange import HttpRequest
from serving.client.forks import PerProcess
from serving.client.tls import Tls
from serving.client.transport import Deadline

_LONGEST_LIMIT_MS = 999_999_999


class _Target(Address):
    """A server, and how long it may take."""

    def __init__(self, target: str, timeout: float, tls: Tls) -> None:
        scheme = "" if "://" in target or target.startswith("unix:") else "https://" if tls.given else "http://"
        super().__init__(f"{scheme}{target}", tls, name="target")
        self._timeout = timeout

    def arguments(self, request: HttpRequest, deadline: Deadline) -> dict[str, Any]:
        """Of httpx' `request`; the server is told the time limit.

        Raises:
            UnreachableError: the time is over.
        """
        left = deadline.left()
        if not left:
            raise UnreachableError(f"{self.shown} cannot be reached: no answer within {self._timeout:g} s")
        content = dict(request.content)
        limit = {"X-Request-Timeout-Ms": str(max(1, min(int(left * 1e3), _LONGEST_LIMIT_MS)))}
        content["headers"] = dict(content.get("headers", {})) | limit
        return {"method": request.method, "url": request.path, "timeout": left, **content}

    def failed(self, error: httpx.RequestError) -> UnreachableError:
        return self.failure(error, within=self._timeout)


class HttpConnection:
    """Sends with blocking calls."""

    def __init__(self, target: str, timeout: float, tls: Tls) -> None:
        self._target = _Target(target, timeout, tls)
        self._http = PerProcess(self._target.open)

    def send(self, request: HttpRequest, deadline: Deadline) -> httpx.Response:
        try:
            return self._http.get().request(**self._target.arguments(request, deadline))
        except httpx.RequestError as error:
            raise self._target.failed(error) from error

    def close(self) -> None:
        if (http := self._http.take()) is not None:
            http.close()


class AsyncHttpConnection:
    """Sends as coroutines."""

    def __init__(self, target: str, timeout: float, tls: Tls) -> None:
        self._target = _Target(target, timeout, tls)
        self._target.prepare_async()
        self._http = PerProcess(self._target.open_async)

    async def send(self, request: HttpRequest, deadline: Deadline) -> httpx.Response:
        try:
            return await self._http.get().request(**self._target.arguments(request, deadline))
        except httpx.RequestError as error:
            raise self._target.failed(error) from error

    async def close(self) -> None:
        if (http := self._http.take()) is not None:
            await http.aclose()
