"""The bundled generator against a small server that counts for itself."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.asyncio_load import AsyncioLoad
from benchmarks.load import Load, percentile


class Recorder:
    """Answers request number n (from 0) with `reply(n)`; an empty reply closes the connection."""

    def __init__(self, reply: Callable[[int], bytes]) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.statuses: Counter[int] = Counter()
        self.connections = 0
        self.unanswered = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                answer = self.reply(len(self.requests))
                self.requests.append(head + body)
                if not answer:
                    self.unanswered += 1
                    return
                writer.write(answer)
                await writer.drain()
                if answer.startswith(b"HTTP/"):
                    self.statuses[int(answer.split(b" ")[1])] += 1
                await asyncio.sleep(0.001)
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


@contextmanager
def serving(reply: Callable[[int], bytes]) -> Iterator[tuple[Recorder, str]]:
    recorder = Recorder(reply)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(recorder.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield recorder, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict?a=1"
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def close(server: asyncio.Server) -> None:
    """Wait until every connection has ended (the clients have closed their ends), then close the server.

    In this order: asyncio loses a connection that was accepted but not set up when its server closes
    (python/cpython#109564), and one whose task is cancelled before its first step.
    """
    async with asyncio.timeout(60):
        await _turns()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
            await _turns()
    server.close()
    # a transport closes its socket in the next turn
    await _turns()


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def answer(status: int, *headers: str, body: bytes = b"{}") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def run(url: str, connections: int = 2, seconds: float = 0.3):
    load = Load(url, connections, seconds, method="POST", headers={"X-Test": "yes"}, body=b'{"data": 1}')
    return AsyncioLoad().run(load)


def test_counts_statuses_as_the_server_does():
    cycle = [200, 204, 201, 302, 404, 503]
    with serving(lambda n: answer(cycle[n % 6], body=b"" if cycle[n % 6] == 204 else b"{}")) as (recorder, url):
        result = run(url)
    bad = sum(count for status, count in recorder.statuses.items() if not 200 <= status < 300)
    assert bad > 0
    # one request of each connection may have been under way at the end
    assert bad - 2 <= result.non_2xx <= bad
    assert result.errors == 0
    assert 0 < result.p50_ms <= result.p99_ms
    assert result.requests_per_second > 0


def test_keeps_its_connections_and_sends_the_whole_request():
    with serving(lambda _: answer(200)) as (recorder, url):
        run(url, connections=3)
    assert recorder.connections == 3
    assert len(recorder.requests) > 3
    request = recorder.requests[0]
    assert request.startswith(b"POST /predict?a=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Test: yes\r\n" in request
    assert request.endswith(b'\r\n\r\n{"data": 1}')


def test_reads_chunked_answers_to_their_end():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\r\n}\r\n1\r\n \r\n0\r\n\r\n"
    with serving(lambda _: chunked) as (recorder, url):
        result = run(url, connections=1)
    assert (result.non_2xx, result.errors) == (0, 0)
    assert recorder.connections == 1
    assert len(recorder.requests) > 1


def test_a_server_that_closes_after_an_answer_is_no_error():
    with serving(lambda _: answer(200, "Connection: close")) as (recorder, url):
        result = run(url, connections=1)
    assert result.errors == 0
    assert recorder.connections > 1


def test_requests_without_an_answer_are_errors():
    with serving(lambda n: answer(200) if n % 2 else b"") as (recorder, url):
        result = run(url, connections=1)
    assert recorder.unanswered - 1 <= result.errors <= recorder.unanswered
    assert result.errors > 0
    assert result.non_2xx == 0


@pytest.mark.parametrize("reply", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_what_is_not_http_with_a_length_is_an_error(reply):
    with serving(lambda _: reply) as (_, url):
        result = run(url, connections=1, seconds=0.1)
    assert result.errors > 0
    assert result.requests_per_second == 0


def test_no_server_is_errors_not_an_exception():
    result = run("http://127.0.0.1:9/", connections=1, seconds=0.1)
    assert result.errors > 0
    assert result.requests_per_second == 0
    assert result.p50_ms != result.p50_ms


def test_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
