"""This machine is never asked of a proxy."""

from __future__ import annotations

import urllib.request

import httpx
import pytest

from serving.settings.proxies import spare_loopback

PROXY = {"http_proxy": "http://127.0.0.1:9"}
ADDED = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PROXY, ADDED),
        (PROXY | {"no_proxy": "", "NO_PROXY": ""}, ADDED),
        (PROXY | {"NO_PROXY": "example.com, .internal"}, f"example.com,.internal,{ADDED}"),
        (PROXY | {"no_proxy": "127.0.0.1", "NO_PROXY": "other"}, "127.0.0.1,localhost,::1"),
        ({"ALL_PROXY": "http://127.0.0.1:9"}, ADDED),
    ],
)
def test_the_names_of_this_machine_are_added(given: dict[str, str], expected: str) -> None:
    environment = dict(given)
    spare_loopback(environment)
    assert environment == given | {"no_proxy": expected, "NO_PROXY": expected}


@pytest.mark.parametrize("given", [{}, {"http_proxy": ""}, {"NO_PROXY": "a"}, PROXY | {"no_proxy": "*"}])
def test_nothing_changes_without_a_proxy(given: dict[str, str]) -> None:
    environment = dict(given)
    spare_loopback(environment)
    assert environment == given


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_libraries_understand_it(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9" if "http" in name.lower() else "")
    spare_loopback()
    assert urllib.request.proxy_bypass(host.strip("[]"))
    with httpx.Client() as client:
        transport = client._transport_for_url(httpx.URL(f"http://{host}:3000"))
        assert transport is client._transport
        assert client._transport_for_url(httpx.URL("http://example.com")) is not client._transport
