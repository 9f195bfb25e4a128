"""Where a server may be, and connections that it closes between two calls."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving.client import Client, Predictor, UnreachableError
from tests.client.server import Address
from tests.jobs_stand_in import StandIn, done, handler
from tests.relay import Relay

ROWS = [[5.1, 3.5, 1.4, 0.2]]


class _Unix(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        return self.socket.accept()[0], ("", 0)


class _Six(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture(params=["unix", "ipv6"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    api = StandIn()
    api.job("a", done(7))
    requests = handler(api)
    if request.param == "unix":
        server: ThreadingHTTPServer = _Unix(str(tmp_path / "socket"), requests)  # type: ignore[arg-type]
        url = f"unix:{tmp_path / 'socket'}"
    else:
        server = _Six(("::1", 0), requests)
        url = f"http://[::1]:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


def test_sockets_and_addresses_of_version_6(url: str) -> None:
    with Client(url, timeout=20) as client:
        assert client.get("a").result == 7


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_connection_that_was_closed_between_two_calls_is_opened_anew(any_models: Address, transport: Any) -> None:
    address = any_models.url if transport == "rest" else any_models.grpc
    with Relay("127.0.0.1", int(address.rpartition(":")[2])) as relay:
        with Predictor(relay.address, protocol="v2", transport=transport, timeout=60) as predictor:
            first = predictor.predict("flowers", rows=ROWS)
            relay.cut()
            assert predictor.predict("flowers", rows=ROWS) == first
        assert relay.connections == 2


def test_a_prediction_is_asked_twice_at_most() -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end_all() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                asked.append(connection.recv(65_536))
                connection.close()

        thread = threading.Thread(target=end_all)
        thread.start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with Predictor(target, timeout=60) as predictor, pytest.raises(UnreachableError, match="without an answer"):
            predictor.predict("flowers", rows=ROWS)
        thread.join()
    assert len(asked) == 2


def test_a_password_goes_to_the_server_and_not_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with StandIn() as api, caplog.at_level(logging.DEBUG):
        api.job("a", done(7))
        with Client(api.url.replace("://", "://user:secret@"), timeout=20) as client:
            assert client.get("a").result == 7
        assert api.asked[0].headers["authorization"].startswith("Basic ")
    assert "HTTP Request" in caplog.text
    assert "secret" not in caplog.text


def test_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with Predictor("http://server.test", timeout=60) as predictor, pytest.raises(UnreachableError) as caught:
        predictor.predict("flowers", rows=ROWS)
    assert "the proxy http://127.0.0.1:1 cannot be reached" in str(caught.value)
