"""The bundled load generator, for machines that have no other: asyncio streams, HTTP/1.1 keep-alive.

It is slower than most servers that it measures, so its figures compare servers only up to its own limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.load import Load, LoadResult, percentile

RETRY_PAUSE = 0.01
"""Seconds before connecting again after an error, so that a dead server is not hammered."""


class AsyncioLoad:
    """Runs in the caller's process, in an event loop of its own."""

    name = "bundled asyncio"

    def run(self, load: Load) -> LoadResult:
        return asyncio.run(_run(load))


@dataclass(slots=True)
class _Tally:
    statuses: Counter[int] = field(default_factory=Counter)
    errors: int = 0
    latencies_ms: list[float] = field(default_factory=list)


async def _run(load: Load) -> LoadResult:
    tally = _Tally()
    began = time.perf_counter()
    tasks = [asyncio.create_task(_client(load, tally)) for _ in range(load.connections)]
    try:
        await asyncio.sleep(load.seconds)
        elapsed = time.perf_counter() - began
        # a task that ended by itself has failed in a way that is not the server's
        broken = [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in broken:
        task.result()
    ordered = sorted(tally.latencies_ms)
    return LoadResult(
        requests_per_second=len(ordered) / elapsed,
        p50_ms=percentile(ordered, 0.50),
        p99_ms=percentile(ordered, 0.99),
        non_2xx=sum(count for status, count in tally.statuses.items() if not 200 <= status < 300),
        errors=tally.errors,
    )


async def _client(load: Load, tally: _Tally) -> None:
    """One connection after another, one request at a time, until cancelled."""
    url = urlsplit(load.url)
    request = _request(load)
    while True:
        try:
            reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
        except OSError:
            tally.errors += 1
            await asyncio.sleep(RETRY_PAUSE)
            continue
        try:
            keep = True
            while keep:
                began = time.perf_counter()
                writer.write(request)
                status, keep = await _response(reader)
                tally.latencies_ms.append((time.perf_counter() - began) * 1e3)
                tally.statuses[status] += 1
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            tally.errors += 1
            await asyncio.sleep(RETRY_PAUSE)
        finally:
            writer.close()


def _request(load: Load) -> bytes:
    url = urlsplit(load.url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"{load.method} {path} HTTP/1.1", f"Host: {url.netloc}", f"Content-Length: {len(load.body)}"]
    lines += [f"{name}: {value}" for name, value in load.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + load.body


async def _response(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one response to its end: its status, and whether the connection stays open.

    Raises:
        ValueError: it is not HTTP/1.1 with a known length.
        asyncio.IncompleteReadError: the server closed the connection in the middle (an `EOFError`).
    """
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not a status line: {first!r}")
    headers = {
        name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif status not in ("204", "304"):
        # without a length the body would end with the connection: no server here does that
        await reader.readexactly(int(headers.get("content-length", "missing")))
    return int(status), headers.get("connection") != "close"
