"""The open-loop generator: its parser, its counts, and one load on a small server that counts for itself."""

import asyncio
import dataclasses
import json
import math
from collections import Counter

import pytest

from benchmarks.load import LoadError
from benchmarks.offered import Offered, OpenLoad, Tally
from benchmarks.open_loop import offer, parse_answer
from benchmarks.open_loop_process import offer_in_process, parse_offered
from tests.benchmarks.test_asyncio_load import answer, close


def offered(**changes) -> Offered:
    values = {
        **{"seconds": 2.0, "scheduled": 100, "sent": 90, "no_connection": 4, "too_late": 6, "statuses": {200: 90}},
        **{"polite": 0, "broken": 0, "unanswered": 0, "accepted_p50_ms": 1.0, "accepted_p99_ms": 2.0},
        **{"refused_p99_ms": math.nan, "lag_p99_ms": 0.5, "drained_seconds": 0.1, "ended_at": 1e9},
    }
    return Offered(**{**values, **changes})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (answer(200), (200, False, True)),
        (answer(429, "Retry-After: 7"), (429, True, True)),
        (answer(429, "RETRY-AFTER:7", "X: y"), (429, True, True)),
        (answer(429, "Retry-After: soon"), (429, False, True)),
        (answer(429, "X-Retry-After: 7"), (429, False, True)),
        (answer(503, "Connection: close"), (503, False, False)),
        (answer(200, body=b""), (200, False, True)),
    ],
)
def test_an_answer_is_read_once_it_is_complete(data: bytes, expected: tuple[int, bool, bool]):
    assert parse_answer(data) == expected
    assert all(parse_answer(data[:length]) is None for length in range(len(data)))


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n"])
def test_what_is_not_http_with_a_length_is_an_error(data: bytes):
    with pytest.raises(ValueError, match=r"status line|length"):
        parse_answer(data)


def test_latency_is_from_the_scheduled_time_and_apart_by_outcome():
    tally = Tally()
    tally.answer(200, False, due=1.0, now=3.5)
    tally.answer(429, True, due=2.0, now=2.001)
    tally.answer(429, False, due=2.0, now=2.002)
    tally.answer(504, False, due=2.0, now=9.0)
    assert list(tally.accepted) == [2500.0]
    assert list(tally.refused) == pytest.approx([1.0, 2.0])
    assert tally.statuses == {200: 1, 429: 2, 504: 1}
    assert (tally.polite, tally.last) == (1, 9.0)


@pytest.mark.parametrize(
    ("changes", "improper"),
    [
        ({}, 0),
        ({"statuses": {200: 50, 204: 1, 429: 30, 504: 9}, "polite": 30}, 0),
        ({"statuses": {200: 50, 429: 30}, "polite": 28}, 2),
        ({"statuses": {200: 50, 503: 3, 500: 1}}, 4),
        ({"statuses": {200: 50, 404: 1}, "broken": 5, "unanswered": 7}, 13),
    ],
)
def test_improper_is_all_but_2xx_polite_429_and_504(changes, improper):
    assert offered(**changes).improper == improper


def test_the_offered_rate_is_what_was_sent():
    assert offered().offered_per_second == 45
    assert offered(statuses={200: 5, 201: 1, 429: 9}).accepted == 6


def test_the_result_survives_the_way_between_processes():
    result = offered(statuses={200: 7, 429: 2})
    back = parse_offered(json.dumps(dataclasses.asdict(result)))
    assert back.statuses == {200: 7, 429: 2}
    assert (back.sent, back.ended_at, math.isnan(back.refused_p99_ms)) == (90, 1e9, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"statuses": {"x": 1}}', '{"statuses": []}'])
def test_another_result_is_an_error(text: str):
    with pytest.raises(LoadError, match="cannot be read"):
        parse_offered(text)


class Counting:
    """Answers request number n (from 0) with `reply(n)`; nothing for `None`; closes without an answer for `b""`."""

    def __init__(self, reply) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.statuses: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
                reply = self.reply(len(self.requests))
                self.requests.append(head + body)
                if reply == b"":
                    return
                if reply is not None:
                    writer.write(reply)
                    if reply.startswith(b"HTTP/"):
                        self.statuses[int(reply[9:12])] += 1
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


def run(reply, **changes) -> tuple[Counting, Offered]:
    async def both() -> tuple[Counting, Offered]:
        counting = Counting(reply)
        server = await asyncio.start_server(counting.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict"
        values = {"rate": 200, "seconds": 0.5, "connections": 50, "body": b"x\x00y", "patience": 20.0, **changes}
        try:
            return counting, await offer(OpenLoad(url, headers={"X-Test": "yes"}, **values))
        finally:
            await close(server)

    return asyncio.run(both())


def test_every_scheduled_request_is_sent_or_counted_as_not_sent():
    cycle = [answer(200), answer(429, "Retry-After: 1"), answer(429), answer(504), answer(500)]
    counting, result = run(lambda n: cycle[n % 5])
    assert result.scheduled == 100
    assert result.sent + result.no_connection + result.too_late == 100
    assert 0 < result.sent == len(counting.requests)
    assert result.statuses == counting.statuses
    assert result.polite == sum(n % 5 == 1 for n in range(result.sent))
    assert result.improper == sum(n % 5 in (2, 4) for n in range(result.sent))
    assert (result.broken, result.unanswered) == (0, 0)
    assert counting.requests[0].startswith(b"POST /predict HTTP/1.1\r\n")
    assert b"\r\nX-Test: yes\r\n" in counting.requests[0]
    assert counting.requests[0].endswith(b"\r\n\r\nx\x00y")


def test_a_silent_server_does_not_hold_the_schedule_up():
    counting, result = run(lambda _: None, connections=7, patience=0.1)
    assert (result.sent, result.unanswered, result.improper) == (7, 7, 7)
    assert result.no_connection + result.too_late == 93
    assert len(counting.requests) == 7


def test_a_closed_connection_is_a_broken_request_and_is_replaced():
    counting, result = run(lambda n: b"" if n % 2 else answer(200), connections=5)
    assert result.broken == len(counting.requests) // 2 > 5
    assert result.statuses == counting.statuses
    assert result.unanswered == 0


def test_an_answer_that_is_no_http_is_a_broken_request():
    _, result = run(lambda _: b"SSH-2.0-hello\r\n\r\n" * 2, connections=5)
    assert result.broken == result.sent > 0


def test_no_server_is_broken_requests_not_an_exception():
    result = asyncio.run(offer(OpenLoad("http://127.0.0.1:9/", rate=50, seconds=0.2, connections=3, body=b"")))
    assert result.broken == result.sent > 0
    assert result.statuses == {}
    assert math.isnan(result.accepted_p99_ms)


def test_a_failure_of_the_generator_is_not_one_of_the_server(monkeypatch):
    def fail(*_):
        raise RuntimeError("a mistake in here")

    monkeypatch.setattr(Tally, "answer", fail)
    with pytest.raises(RuntimeError, match="a mistake in here"):
        run(lambda _: answer(200))


def test_the_process_does_the_same_and_says_when_it_fails():
    result = offer_in_process(OpenLoad("http://127.0.0.1:9/", rate=50, seconds=0.2, connections=3, body=b"x"))
    assert result.broken == result.sent > 0
    with pytest.raises(LoadError, match="ended with"):
        offer_in_process(OpenLoad("http://127.0.0.1:9/", rate=0, seconds=0.2, connections=3, body=b"x"))
