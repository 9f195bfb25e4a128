"""Proxies that the environment names, and which addresses are not asked of them."""

from __future__ import annotations

from ipaddress import ip_address

import httpx


def without_proxy(url: httpx.URL) -> dict[str, None]:
    """`mounts` of a client of httpx: a server on this machine is asked directly, as no proxy knows it."""
    return {f"all://[{url.host}]" if ":" in url.host else f"all://{url.host}": None} if is_loopback(url.host) else {}


def is_loopback(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
