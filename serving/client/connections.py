"""Connections to one server over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from serving.client.answers import UnreachableError
from serving.client.exchange import HttpRequest
from serving.client.proxies import without_proxy
from serving.client.transport import Deadline

_LONGEST_LIMIT_MS = 999_999_999


class _Address:
    """Where the server is, and how it is asked."""

    def __init__(self, target: str, timeout: float) -> None:
        try:
            url = httpx.URL(target if "://" in target else f"http://{target}")
        except httpx.InvalidURL as error:
            raise ValueError(f"target: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("target: host:port, or a URL with http or https, is required")
        # A password in the URL goes to the server and not into messages.
        self._shown = str(url.copy_with(userinfo=b"")).rstrip("/")
        self._timeout = timeout
        # As `Transport` has them.
        self.options: dict[str, Any] = {
            "base_url": url,
            "verify": url.scheme == "https",
            "follow_redirects": False,
            "mounts": without_proxy(url),
        }

    def arguments(self, request: HttpRequest, deadline: Deadline) -> dict[str, Any]:
        """Of httpx' `request`; the server is told the time limit.

        Raises:
            UnreachableError: the time is over.
        """
        left = deadline.left()
        if not left:
            raise self.unreachable(TimeoutError(f"no answer within {self._timeout:g} s"))
        content = dict(request.content)
        limit = {"X-Request-Timeout-Ms": str(max(1, min(int(left * 1e3), _LONGEST_LIMIT_MS)))}
        content["headers"] = dict(content.get("headers", {})) | limit
        return {"method": request.method, "url": request.path, "timeout": left, **content}

    def unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"{self._shown} cannot be reached: {str(error) or type(error).__name__}")


class HttpConnection:
    """Sends with blocking calls."""

    def __init__(self, target: str, timeout: float) -> None:
        self._address = _Address(target, timeout)
        self._http = httpx.Client(**self._address.options)

    def send(self, request: HttpRequest, deadline: Deadline) -> httpx.Response:
        try:
            return self._http.request(**self._address.arguments(request, deadline))
        except httpx.RequestError as error:
            raise self._address.unreachable(error) from error

    def close(self) -> None:
        self._http.close()


class AsyncHttpConnection:
    """Sends as coroutines."""

    def __init__(self, target: str, timeout: float) -> None:
        self._address = _Address(target, timeout)
        self._http = httpx.AsyncClient(**self._address.options)

    async def send(self, request: HttpRequest, deadline: Deadline) -> httpx.Response:
        try:
            return await self._http.request(**self._address.arguments(request, deadline))
        except httpx.RequestError as error:
            raise self._address.unreachable(error) from error

    async def close(self) -> None:
        await self._http.aclose()
