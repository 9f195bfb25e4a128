"""Proxies that the environment names, and what is never asked of them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def spare_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let no library of this process ask a proxy for what is on this machine: no proxy knows it.

    Libraries for HTTP and gRPC read `no_proxy`, in small letters first. Call it before the first of them is asked.
    """
    names = {name.lower() for name, value in environment.items() if value}
    if names.isdisjoint(_PROXIES):
        return
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for host in map(str.strip, given.split(",")) if host]
    if hosts == ["*"]:
        return
    hosts += [host for host in _LOOPBACK if host not in hosts]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join(hosts)
