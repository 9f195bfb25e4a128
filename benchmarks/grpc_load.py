"""The load generator for gRPC: `grpc.aio` channels, one connection and one call under way each.

Written in Python as most of the servers are, it takes about as much time as they do: figures compare servers only up to
its own limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import uvloop

from benchmarks.load import Load, LoadResult, percentile

_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
"""Otherwise channels to one address share a connection."""


@dataclass(frozen=True, slots=True)
class GrpcLoad:
    """Calls one method with the load's body; its URL does not matter."""

    target: str
    method: str
    name: str = "grpc.aio"

    def run(self, load: Load) -> LoadResult:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(self, load))


@dataclass(slots=True)
class _Tally:
    latencies_ms: list[float] = field(default_factory=list)
    refused: int = 0
    errors: int = 0


async def _run(generator: GrpcLoad, load: Load) -> LoadResult:
    tally = _Tally()
    channels = [grpc.aio.insecure_channel(generator.target, options=_OPTIONS) for _ in range(load.connections)]
    try:
        # connecting is not measured
        await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), 30)
        began = time.perf_counter()
        until = began + load.seconds
        await asyncio.gather(
            *(_client(channel.unary_unary(generator.method), load.body, until, tally) for channel in channels)
        )
        elapsed = time.perf_counter() - began
    finally:
        for channel in channels:
            await channel.close()
    ordered = sorted(tally.latencies_ms)
    return LoadResult(
        requests_per_second=len(ordered) / elapsed,
        p50_ms=percentile(ordered, 0.50),
        p99_ms=percentile(ordered, 0.99),
        non_2xx=tally.refused,
        errors=tally.errors,
    )


async def _client(call: Callable[..., Awaitable[bytes]], body: bytes, until: float, tally: _Tally) -> None:
    while (began := time.perf_counter()) < until:
        try:
            await call(body, timeout=30)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                tally.errors += 1
                await asyncio.sleep(0.01)
                continue
            tally.refused += 1
        tally.latencies_ms.append((time.perf_counter() - began) * 1e3)
