"""Where a server is, and how it is asked over HTTP."""

from __future__ import annotations

# The first request would import these. A process that is forked in the middle of that, by another thread, would wait
# for its end for ever.
import encodings.idna  # noqa: F401
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.request import getproxies, proxy_bypass

import certifi  # noqa: F401
import httpcore  # noqa: F401
import httpx

from serving.client.answers import LostError, UnreachableError
from serving.client.failures import meaning
from serving.client.proxies import is_loopback, without_proxy
from serving.client.tls import Tls

_UNIX = "unix:"
# The request went out on a connection that the server may have closed in the meantime.
_LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Address:
    """The address of a server.

    Args:
        text: a URL of HTTP or HTTPS, with a path where the service stands below one; or `unix:` and the path of a
            socket.
        name: of the argument, for errors.

    Attributes:
        shown: for messages; a user and a password in the URL go to the server only.

    Raises:
        ValueError: it is no such address.
    """

    def __init__(self, text: str, tls: Tls, *, name: str) -> None:
        self._socket = socket_path(text)
        try:
            url = httpx.URL("http://localhost" if self._socket else text)
        except httpx.InvalidURL as error:
            # Its text may show a part of a password.
            raise ValueError(f"{name}: not a URL" if "@" in text else f"{name}: {error}") from error
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
            raise ValueError(f"{name}: http://host:port or https://host:port is required, or unix:/path/of/socket")
        self._secure = url.scheme == "https"
        if tls.given and not self._secure:
            raise ValueError(f"{name}: certificates are for TLS; the address has to begin with https://")
        self._has_certificate = tls.has_certificate
        self._auth = (url.username, url.password) if url.userinfo else None
        # httpx writes the URLs of requests into its log.
        self._url = url.copy_with(userinfo=b"")
        self.shown = text if self._socket else str(self._url).rstrip("/")
        # Without HTTPS reading the roots would double the time to start.
        self._verify = tls.context() if self._secure else False
        self._proxy = None if self._socket else _proxy(self._url)

    def options(self, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Of a client of httpx. Certificates are always judged; redirects are not followed, so HTTPS stays that."""
        return {
            "base_url": self._url,
            "auth": self._auth,
            "headers": headers,
            "verify": self._verify,
            "follow_redirects": False,
            "mounts": without_proxy(self._url),
        }

    def open(self, headers: Mapping[str, str] | None = None) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self._socket) if self._socket else None
        return httpx.Client(**self.options(headers), transport=transport)

    @staticmethod
    def prepare_async() -> None:
        """Import what the requests of `open_async` would import."""
        import_module("anyio._backends._asyncio")
        import_module("sniffio")

    def open_async(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=self._socket) if self._socket else None
        return httpx.AsyncClient(**self.options(), transport=transport)

    def failure(self, error: httpx.RequestError, *, within: float) -> UnreachableError:
        """What a request that had no answer says; LostError where the connection ended."""
        if isinstance(error, httpx.DecodingError):
            return UnreachableError(f"the answer of {self.shown} cannot be decompressed: {error}")
        if isinstance(error, httpx.ProxyError):
            return UnreachableError(f"{self.shown} cannot be reached: the proxy {self._proxy} answers {error}")
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(f"{self.shown} cannot be reached: no answer within {within:g} s")
        text = str(error) or type(error).__name__
        if "incomplete" in text or "complete message body" in text:
            return LostError(f"the answer of {self.shown} is cut off: {text}")
        why = meaning(text, secure=self._secure, certificate=self._has_certificate)
        if self._proxy is not None and isinstance(error, httpx.ConnectError) and why == text:
            why = f"the proxy {self._proxy} cannot be reached: {text}"
        kind = LostError if isinstance(error, _LOST) else UnreachableError
        return kind(f"{self.shown} cannot be reached: {why}")


def socket_path(text: str) -> str:
    """The path in `unix:/path` and `unix:///path`; empty for every other address."""
    if not text.startswith(_UNIX):
        return ""
    return "/" + text.removeprefix(_UNIX).lstrip("/")


def _proxy(url: httpx.URL) -> str | None:
    """The proxy that the environment names for `url`, without its password."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or is_loopback(url.host) or proxy_bypass(url.host):
        return None
    try:
        return str(httpx.URL(proxy).copy_with(userinfo=b""))
    except httpx.InvalidURL:
        return "of the environment"
