"""The bundled open-loop load generator: every request has its own time, whatever became of the ones before.

Latencies are from a request's scheduled time to the end of its answer, so what a slow server delays is counted
in full (no coordinated omission). A request whose time has come when all connections wait for an answer, or
which this program is too late for, is not sent and counted as such: the offered rate is what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from typing import Any, cast
from urllib.parse import urlsplit

from benchmarks.load import percentile
from benchmarks.offered import Offered, OpenLoad, Tally

LATEST = 0.1
"""Seconds behind its time after which a request is not sent any more."""
IDLE_SECONDS = 3.0
"""A connection that was idle for longer is not used again: servers close theirs after about 5 s."""
AT_ONCE = 32
"""Requests sent before the answers that have come are looked at."""
AT_A_TIME = 64
"""Connections that are opened together before the first request."""
ACCEPT = 0.0005
"""Seconds that an idle server is given to accept each of them; an event loop of libuv accepts one in each turn."""
LONGEST_ACCEPT = 1.5
"""Most of these seconds together."""
TICK = 0.001
"""Shortest sleep between two looks at the clock, in seconds."""
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)")
RETRY_AFTER = re.compile(rb"\r\nretry-after:[ \t]*\d+[ \t]*(?:\r\n|$)")


def parse_answer(data: bytes | bytearray) -> tuple[int, bool, bool] | None:
    """Status, whether there is a Retry-After, and whether the connection stays; `None` until it is complete.

    Raises:
        ValueError: it is not HTTP/1.1 with a known length.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = bytes(data[:head_end]).lower()
    if not head.startswith(b"http/1.") or not head[9:12].isdigit():
        raise ValueError(f"not a status line: {head[:50]!r}")
    length = LENGTH.search(head)
    if length is None:
        raise ValueError("an answer without a length")
    if len(data) < head_end + 4 + int(length[1]):
        return None
    return int(head[9:12]), RETRY_AFTER.search(head) is not None, b"\r\nconnection: close" not in head


class _Connection(asyncio.Protocol):
    """One request under way at a time; `due` is its scheduled time, `None` while idle."""

    def __init__(self, run: _Run, due: float | None = None) -> None:
        self._run = run
        self._buffer = bytearray()
        self.due = due
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of `asyncio.Transport` and are none
        self.transport = cast(asyncio.Transport, transport)
        if self.due is None:
            self.idle_since = time.perf_counter()
            self._run.idle.append(self)
        else:
            self.transport.write(self._run.request)

    def send(self, due: float) -> None:
        assert self.transport is not None
        self.due = due
        self.transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        assert self.transport is not None
        try:
            answer = parse_answer(self._buffer)
        except ValueError:
            self.transport.abort()  # `connection_lost` counts it
            return
        if answer is None or self.due is None:
            return
        status, polite, keep = answer
        self.idle_since = time.perf_counter()
        self._run.tally.answer(status, polite, self.due, self.idle_since)
        self.due = None
        self._run.settled()
        self._buffer.clear()
        if keep:
            self._run.idle.append(self)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        if self.due is not None:
            self._run.tally.broken += 1
            self.due = None
            self._run.settled()
        self._run.closed(self)


class _Run:
    """One load on one server."""

    def __init__(self, load: OpenLoad) -> None:
        self.load = load
        self.tally = Tally()
        self.request = _request(load)
        self.idle: deque[_Connection] = deque()
        self.open: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self.sent = self.no_connection = self.too_late = 0
        self._waiting = 0
        self._all_sent = False
        self._failure: BaseException | None = None
        self._done = asyncio.Event()

    def settled(self) -> None:
        """A request has got its answer or never will."""
        self._waiting -= 1
        if self._all_sent and not self._waiting:
            self._done.set()

    def closed(self, connection: _Connection) -> None:
        self.open.discard(connection)

    def _offer(self, due: float, now: float) -> None:
        if now - due > LATEST:
            self.too_late += 1
            return
        self._waiting += 1
        while self.idle:
            connection = self.idle.pop()
            assert connection.transport is not None
            if connection.transport.is_closing():
                continue
            if now - connection.idle_since > IDLE_SECONDS:
                connection.transport.close()
                continue
            connection.send(due)
            break
        else:
            if len(self.open) >= self.load.connections:
                self._waiting -= 1
                self.no_connection += 1
                return
            connection = _Connection(self, due)
            self.open.add(connection)
            task = asyncio.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        self.sent += 1
        self.tally.lags.append((now - due) * 1e3)

    async def _connect(self, connection: _Connection) -> None:
        url = urlsplit(self.load.url)
        self.open.add(connection)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, url.hostname, url.port or 80)
        except OSError:
            connection.connection_lost(None)

    async def _connect_all(self) -> None:
        """Before the clock starts: a server under load is slow to accept, and its clients have connections."""
        while (missing := self.load.connections - len(self.open)) > 0:
            before = len(self.open)
            await asyncio.gather(*(self._connect(_Connection(self)) for _ in range(min(missing, AT_A_TIME))))
            if len(self.open) <= before:
                return  # refused: the requests will say so
        # Connected is not accepted: what is in the listener's backlog yet would wait there for the end of the load.
        await asyncio.sleep(min(len(self.open) * ACCEPT, LONGEST_ACCEPT))

    async def run(self) -> Offered:
        load = self.load
        asyncio.get_running_loop().set_exception_handler(self._failed)
        total = max(1, round(load.rate * load.seconds))
        await self._connect_all()
        began = time.perf_counter()
        ended_at = time.time()
        number = 0
        while number < total and self._failure is None:
            now = time.perf_counter()
            for _ in range(AT_ONCE):
                due = began + number / load.rate
                if due > now or number >= total:
                    break
                self._offer(due, now)
                number += 1
            await asyncio.sleep(max(TICK, due - now) if due > now else 0)
        last_due = began + total / load.rate
        self._all_sent = True
        if self._waiting and self._failure is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), load.patience)
        ended_at += self.tally.last - began if self.tally.last else load.seconds
        unanswered = self._waiting
        await self._close()
        if self._failure is not None:
            raise self._failure
        return self._result(total, unanswered, max(0.0, self.tally.last - last_due), ended_at)

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A failure of this program must not look like one of the server."""
        self._failure = context.get("exception") or RuntimeError(context["message"])
        self._done.set()

    async def _close(self) -> None:
        for task in self._connecting:
            task.cancel()
        for connection in list(self.open):
            connection.due = None
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)

    def _result(self, total: int, unanswered: int, drained: float, ended_at: float) -> Offered:
        accepted, refused = sorted(self.tally.accepted), sorted(self.tally.refused)
        return Offered(
            seconds=total / self.load.rate,
            scheduled=total,
            sent=self.sent,
            no_connection=self.no_connection,
            too_late=self.too_late,
            statuses=dict(sorted(self.tally.statuses.items())),
            polite=self.tally.polite,
            broken=self.tally.broken,
            unanswered=unanswered,
            accepted_p50_ms=percentile(accepted, 0.50),
            accepted_p99_ms=percentile(accepted, 0.99),
            refused_p99_ms=percentile(refused, 0.99),
            lag_p99_ms=percentile(sorted(self.tally.lags), 0.99),
            drained_seconds=drained,
            ended_at=ended_at,
        )


async def offer(load: OpenLoad) -> Offered:
    """Put the load on the server and wait for the last answer; what fails in here is raised."""
    return await _Run(load).run()


def _request(load: OpenLoad) -> bytes:
    url = urlsplit(load.url)
    lines = [f"{load.method} {url.path or '/'} HTTP/1.1", f"Host: {url.netloc}", f"Content-Length: {len(load.body)}"]
    lines += [f"{name}: {value}" for name, value in load.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + load.body
