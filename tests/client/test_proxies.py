"""The client asks a server on this machine directly, and others as the environment says."""

from __future__ import annotations

import httpx
import pytest

from serving.client.proxies import without_proxy
from tests.server import NO_PROXY_THERE


@pytest.mark.parametrize(
    ("url", "directly"),
    [
        ("http://127.0.0.1:3000", True),
        ("http://127.8.9.10", True),
        ("http://localhost:3000/path", True),
        ("https://model.localhost", True),
        ("http://[::1]:3000", True),
        ("http://10.0.0.1:3000", False),
        ("http://model-serving:3000", False),
        ("https://example.com", False),
        ("http://localhost.example.com", False),
    ],
)
def test_only_what_is_on_this_machine_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, url: str, directly: bool
) -> None:
    for name, value in NO_PROXY_THERE.items():
        monkeypatch.setenv(name, value)
    with httpx.Client(mounts=without_proxy(httpx.URL(url))) as client:
        assert (client._transport_for_url(httpx.URL(url)) is client._transport) == directly
