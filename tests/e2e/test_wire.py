"""What programs and connections of all kinds send to a real server."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from tests.server import Server

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}
SETOSA = 0.9745
OFFER = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(*arguments: str, content: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of the last answer; 0 where there was none."""
    found = subprocess.run(
        ["curl", "--silent", "--max-time", "60", "--write-out", "%{stderr}%{http_code}", *arguments],
        input=content,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    return int(found.stderr[-3:]), found.stdout


def is_setosa(body: bytes) -> bool:
    (row,) = json.loads(body)["prediction"]
    return bool(round(row[0], 4) == SETOSA)


@needs_curl
def test_curl_offers_http2_and_is_answered_in_http1(server: Server) -> None:
    url = f"{server.url}/iris/predict"
    # two requests, the second on the same connection
    status, body = curl("--http2", "-H", "Content-Type: application/json", "-d", json.dumps(ROW), url, url)
    assert status == 200
    first, _, second = body.partition(b"}")
    assert is_setosa(first + b"}")
    assert is_setosa(second)


@needs_curl
def test_curl_sends_chunks_with_an_offer(server: Server) -> None:
    chunked = ("--http2", "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/json")
    status, body = curl(*chunked, "--data-binary", "@-", f"{server.url}/iris/predict", content=json.dumps(ROW).encode())
    assert status == 200
    assert is_setosa(body)


@needs_curl
def test_curl_with_http2_only_is_refused(server: Server) -> None:
    status, _ = curl("--http2-prior-knowledge", "-d", json.dumps(ROW), f"{server.url}/iris/predict")
    assert status == 0
    assert "not HTTP/2 with prior knowledge" in server.log()


class Raw:
    """A connection."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            assert name.lower() not in headers
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0)) if body and status != 100 else 0
        return status, headers, self._file.read(length)

    def is_closed(self) -> bool:
        return self._file.read(1) == b""


def test_the_body_of_an_offer_may_come_later(server: Server) -> None:
    body = json.dumps(ROW).encode()
    head = b"POST /iris/predict HTTP/1.1\r\nHost: h\r\n" + OFFER + b"Content-Length: %d\r\n\r\n" % len(body)
    with Raw(server) as connection:
        for _ in range(2):
            # The server has read the head when it asks for the body.
            connection.send(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert connection.answer()[0] == 100
            connection.send(body)
            status, _, answered = connection.answer()
            assert status == 200
            assert is_setosa(answered)


def test_a_websocket_is_refused(server: Server) -> None:
    offer = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    with Raw(server) as connection:
        connection.send(b"GET /iris/predict HTTP/1.1\r\nHost: h\r\n" + offer + b"\r\n")
        status, headers, body = connection.answer()
        assert (status, headers["content-type"]) == (400, "application/json")
        assert json.loads(body)["error"]["message"] == "this server has no WebSockets; send HTTP requests"
        assert connection.is_closed()


def test_tls_is_refused(server: Server) -> None:
    context = ssl.create_default_context()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname="localhost")
    assert "plain HTTP, not TLS" in server.log()


@needs_curl
@pytest.mark.parametrize("options", [[], ["--http2"]], ids=["plain", "with an offer"])
def test_curl_sends_an_image_in_every_way(server: Server, photo: bytes, tmp_path: Path, options: list[str]) -> None:
    file, url = tmp_path / "cat.jpg", f"{server.url}/inception_v3/predict"
    file.write_bytes(photo)
    ways = {
        "a form": ["-F", f"image=@{file}"],
        "a form without a file name": ["-F", f"image=<{file};type=image/jpeg"],
        "the body, as a form by default": ["--data-binary", f"@{file}"],
        "the body, of its type": ["-H", "Content-Type: image/jpeg", "--data-binary", f"@{file}"],
        "the body, in chunks": ["-H", "Content-Type: image/jpeg", "-H", "Transfer-Encoding: chunked", "-T", str(file)],
        "the body, once it is asked for": ["-H", "Expect: 100-continue", "--data-binary", f"@{file}"],
    }
    answers = {name: curl(*options, *(["-X", "POST"] if "-T" in way else []), *way, url) for name, way in ways.items()}
    assert {name: status for name, (status, _) in answers.items()} == dict.fromkeys(ways, 200)
    assert len({body for _, body in answers.values()}) == 1


def test_aiohttp_compresses_a_body(server: Server, photo: bytes) -> None:
    """In chunks: aiohttp compresses while it sends."""

    async def ask(path: str, body: bytes, kind: str, encoding: str) -> bytes:
        headers = {"Content-Type": kind}
        async with (
            aiohttp.ClientSession() as session,
            session.post(server.url + path, data=body, headers=headers, compress=encoding) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.read()

    for encoding in ("gzip", "deflate"):
        assert is_setosa(asyncio.run(ask("/iris/predict", json.dumps(ROW).encode(), "application/json", encoding)))
        plain = requests.post(f"{server.url}/inception_v3/predict", files={"image": photo}, timeout=60)
        assert asyncio.run(ask("/inception_v3/predict", photo, "image/jpeg", encoding)) == plain.content


def test_requests_sends_a_compressed_body(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps(ROW).encode())
    assert is_setosa(requests.post(f"{server.url}/iris/predict", data=body, headers=headers, timeout=60).content)


GETS = [
    *("/", "/health", "/livez", "/readyz", "/docs.json", "/inventory", "/jobs", "/jobs/stats", "/iris/metadata"),
    *("/iris/label", "/iris/predict/test", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/iris"),
    *("/v2/models/iris/config", "/v1/models", "/v1/models/iris", "/v1/models/iris/metadata"),
]


@pytest.mark.parametrize("path", GETS)
def test_every_answer_has_the_headers_that_clients_rely_on(server: Server, path: str) -> None:
    with Raw(server) as connection:
        connection.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        status, headers, body = connection.answer()
        assert status == 200
        assert headers["date"].endswith(" GMT")
        assert int(headers["content-length"]) == len(body)
        expected = "text/plain" if path in ("/livez", "/readyz") else "application/json"
        assert headers["content-type"].partition(";")[0] == expected
        # on the same connection, which carries on
        connection.send(f"HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        status, of_head, _ = connection.answer(body=False)
        assert (status, of_head["content-type"]) == (200, headers["content-type"])
        if path not in ("/inventory", "/jobs", "/jobs/stats"):
            assert of_head["content-length"] == headers["content-length"]
        connection.send(f"PATCH {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        status, refused, body = connection.answer()
        assert (status, refused["content-type"]) == (405, "application/json")
        assert "GET, HEAD" in refused["allow"]
        error = json.loads(body)["error"]
        assert isinstance(error, str) == path.startswith(("/v1", "/v2"))
        connection.send(f"OPTIONS {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        status, options, body = connection.answer()
        assert (status, options["allow"], options["content-length"], body) == (200, refused["allow"], "0", b"")
        connection.send(f"GET {path.rstrip('/')}/no/such HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        status, missing, body = connection.answer()
        assert (status, missing["content-type"]) == (404, "application/json")
        assert isinstance(json.loads(body)["error"], str) == path.startswith(("/v1/models", "/v2"))


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("http://example.com/iris/predict", ""),
        ("http://example.com:3000/iris/predict?x", ""),
        ("/iris/predict", "X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\nX-Forwarded-Proto: https\r\nForwarded: for=_x\r\n"),
        ("/iris/predict", "X-Forwarded-For: nonsense, , \r\nX-Forwarded-Proto: nonsense\r\nVia: 1.1 proxy\r\n"),
        ("/iris/pr%65dict", ""),
    ],
)
def test_what_proxies_send_is_understood(server: Server, target: str, headers: str) -> None:
    body = json.dumps(ROW).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    with Raw(server) as connection:
        connection.send(head.encode() + body)
        status, _, answered = connection.answer()
        assert status == 200
        assert is_setosa(answered)


@needs_curl
def test_curl_waits_to_be_asked_for_a_large_body(server: Server) -> None:
    """It sends `Expect: 100-continue` from a megabyte on."""
    body = json.dumps(ROW).encode() + b" " * 2_000_000
    status, answered = curl(
        "--expect100-timeout", "60", "--data-binary", "@-", f"{server.url}/iris/predict", content=body
    )
    assert status == 200
    assert is_setosa(answered)


def test_nothing_of_this_leaves_a_traceback(server: Server) -> None:
    assert "Traceback" not in server.log()
