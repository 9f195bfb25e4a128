"""HTTP/1.1 as API workers speak it: what arrives in segments, and what is answered on the connection."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.bento.http_protocol import HttpProtocol

pytestmark = pytest.mark.anyio

OFFER = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
LENGTH, CHUNKED = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it has understood."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    names = sorted(name.decode() for name, value in scope["headers"] if value)
    answer = json.dumps([scope["method"], scope["path"], body.decode(), names]).encode()
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Connection(asyncio.Transport):
    """The client's end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""
        self.closed = False
        config = Config(echo, ws="none", log_config=None)
        self._server = ServerState()
        self._protocol = HttpProtocol(config=config, server_state=self._server, app_state={})
        self._protocol.connection_made(self)

    async def send(self, *segments: bytes) -> None:
        """Each is read before the next one comes; then the server does all that it has to do."""
        for segment in segments:
            self._protocol.data_received(segment)
            await asyncio.sleep(0)
        while self._server.tasks:
            await asyncio.gather(*self._server.tasks)
        self._protocol._unset_keepalive_if_required()

    def answers(self) -> list[Any]:
        """Bodies of the answers, all of status 200."""
        found, rest = [], self.received
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            found.append(json.loads(rest[:length]))
            rest = rest[length:]
        return found

    def refusal(self) -> str:
        """The message of the one answer, after which the connection is closed."""
        assert self.closed
        head, _, body = self.received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 400 Bad Request"
        expected = {b"content-type: application/json", b"connection: close", b"content-length: %d" % len(body)}
        assert expected <= set(lines)
        error = json.loads(body)["error"]
        assert (error["code"], error["details"]) == ("malformed_request", [])
        return str(error["message"])

    # What the server does with its end

    def write(self, data: Any) -> None:
        self.received += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def head(*headers: bytes, method: bytes = b"POST", path: bytes = b"/x") -> bytes:
    return b"".join([method, b" ", path, b" HTTP/1.1\r\nHost: h\r\n", *headers, b"\r\n"])


REQUESTS = {
    "a length": ([head(OFFER, LENGTH) + b"hello"], ["content-length"]),
    "a length, in a later segment": ([head(OFFER, LENGTH), b"he", b"llo"], ["content-length"]),
    "chunks": ([head(OFFER, CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n"], ["transfer-encoding"]),
    "chunks, in later segments": (
        [head(OFFER, CHUNKED), b"2\r\nhe\r\n3", b"\r\nllo\r", b"\n0\r\n\r\n"],
        ["transfer-encoding"],
    ),
    "headers in segments of a byte": (
        [bytes([byte]) for byte in head(OFFER, LENGTH) + b"hello"],
        ["content-length"],
    ),
    "another protocol": (
        [head(b"Connection: upgrade\r\nupgrade: TLS/1.0\r\n", LENGTH) + b"hello"],
        ["content-length"],
    ),
    "two Connection headers": (
        [head(OFFER, b"Connection: keep-alive\r\n", LENGTH) + b"hello"],
        ["connection", "content-length"],
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_offered_upgrade_is_ignored_and_the_body_is_read(name: str) -> None:
    segments, headers = REQUESTS[name]
    connection = Connection()
    await connection.send(*segments)
    await connection.send(head(method=b"GET", path=b"/next"))
    (first, second) = connection.answers()
    assert first == ["POST", "/x", "hello", sorted(["host", *headers])]
    assert second == ["GET", "/next", "", ["host"]]
    assert not connection.closed


async def test_an_offer_without_a_body_is_ignored() -> None:
    connection = Connection()
    await connection.send(head(OFFER, method=b"GET"))
    assert connection.answers() == [["GET", "/x", "", ["host"]]]


async def test_offers_may_stand_in_a_pipeline() -> None:
    connection = Connection()
    paths = [b"/%d" % number for number in range(4)]
    bodies = [head(OFFER if path != b"/2" else b"", LENGTH, path=path) + b"hello" for path in paths]
    await connection.send(b"".join(bodies))
    assert [answer[1:3] for answer in connection.answers()] == [[path.decode(), "hello"] for path in paths]


async def test_a_client_that_offers_and_wants_no_more_is_let_go() -> None:
    connection = Connection()
    await connection.send(head(OFFER.replace(b"Upgrade, ", b"close, Upgrade, "), LENGTH) + b"hello")
    assert connection.answers()[0][2] == "hello"
    assert connection.closed


async def test_an_offer_smuggles_no_header_in() -> None:
    """What the parser took for one value stays one value when it is parsed again."""
    connection = Connection()
    await connection.send(head(OFFER, b"X: a: b, c\r\n", LENGTH, path=b"/a?b=c%0d%0aY:z") + b"hello")
    assert connection.answers() == [["POST", "/a", "hello", ["content-length", "host", "x"]]]


REFUSED = {
    "HTTP/2 with prior knowledge": (
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)],
        "this port speaks HTTP/1.1, not HTTP/2 with prior knowledge; gRPC has a port of its own, grpc.port",
    ),
    "HTTP/2 in segments": ([b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n" + bytes(9)], "HTTP/2 with prior knowledge"),
    "TLS": ([bytes.fromhex("16030100f8010000f40303") + bytes(64)], "this port speaks plain HTTP, not TLS"),
    "a WebSocket": (
        [head(b"Upgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", method=b"GET")],
        "this server has no WebSockets",
    ),
    "nonsense": ([b"\0\1\2\r\n\r\n"], "this is not a request in HTTP/1.1"),
    "no header": ([b"GET / HTTP/1.1\r\nnonsense\r\n\r\n"], "this is not a request in HTTP/1.1"),
    "two lengths": ([head(LENGTH, b"Content-Length: 6\r\n")], "this is not a request in HTTP/1.1"),
    "a tunnel": ([b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"], "not a request in HTTP/1.1"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_request_is_refused_in_the_shape_of_all_errors(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    segments, says = REFUSED[name]
    connection = Connection()
    with caplog.at_level(logging.INFO):
        await connection.send(*segments)
    assert says in connection.refusal()
    (record,) = caplog.records
    assert record.exc_info is None
    assert says in record.getMessage()
