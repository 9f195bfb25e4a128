"""`python -m benchmarks.jobs_program`: the jobs API and its store, measured from inside the API process.

The real application in this process, without a network in front: what is measured is what a submission costs the
API process, and how long it keeps the event loop from anything else. Prints a line of JSON. The settings come from
the `SERVING__` variables, as for the service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import uvloop

from benchmarks.load import percentile
from benchmarks.photo import photo
from benchmarks.server import HOST, MEGABYTE

PAYLOAD_BYTES = 200_000
CONCURRENCY = 16
TICK = 0.001
HEADERS = {"Content-Type": "image/jpeg"}
PATH = "/inception_v3/jobs"


@dataclass(frozen=True, slots=True)
class Inside:
    """Milliseconds of one submission after the other; jobs per second with several at once; the longest time in
    milliseconds for which the event loop did nothing else meanwhile, and the same without any submission.
    """

    p50_ms: float
    p99_ms: float
    accepted_per_second: float
    blocked_ms: float
    idle_blocked_ms: float


@dataclass(frozen=True, slots=True)
class Depth:
    """Median milliseconds of a claim and its end while so many jobs are queued; resident memory of this process."""

    queued: int
    claim_p50_ms: float
    rss_mb: float


def image_file() -> bytes:
    """A picture padded to 200 kB; what follows a JPEG's end is not looked at."""
    picture = photo()
    return picture + bytes(PAYLOAD_BYTES - len(picture))


@asynccontextmanager
async def application() -> AsyncIterator[Any]:
    import service

    app = service.svc.to_asgi()
    async with app.router.lifespan_context(app):
        yield app


async def measure_inside(count: int) -> Inside:
    body = image_file()
    async with application() as app:

        async def submit() -> float:
            began = time.perf_counter()
            await _post(app, body)
            return (time.perf_counter() - began) * 1e3

        for _ in range(20):
            await submit()
        one_by_one = sorted([await submit() for _ in range(count)])
        idle = await _longest_block(asyncio.sleep(1))

        async def submitter() -> None:
            for _ in range(count // CONCURRENCY):
                await submit()

        began = time.perf_counter()
        blocked = await _longest_block(asyncio.gather(*(submitter() for _ in range(CONCURRENCY))))
        rate = count // CONCURRENCY * CONCURRENCY / (time.perf_counter() - began)
    return Inside(percentile(one_by_one, 0.5), percentile(one_by_one, 0.99), rate, blocked, idle)


async def _post(app: Any, body: bytes) -> None:
    """One request as uvicorn hands it to the application, without a client library's own work."""
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": PATH, "raw_path": PATH.encode(), "root_path": "", "query_string": b"", "client": (HOST, 1)},
        "server": (HOST, 80),
        "headers": [
            (b"host", b"inside"),
            (b"content-length", b"%d" % len(body)),
            *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
        ],
    }
    bodies = [body]
    answer: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    await app(scope, receive, send)
    if answer[0]["status"] != 202:
        raise SystemExit(f"answered {answer[0]['status']}: {answer[1]['body'][:500]!r}")


async def _longest_block(work: Any) -> float:
    """Milliseconds by which a timer of a millisecond was late at most while `work` ran."""
    latest = 0.0
    running = asyncio.ensure_future(work)
    while not running.done():
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        latest = max(latest, time.perf_counter() - before - TICK)
    await running
    return latest * 1e3


async def measure_depths(depths: list[int], claims: int) -> list[Depth]:
    """Fill the queue of a store to each depth in turn and claim from it."""
    from serving.jobs.job import NewJob, new_job_id
    from serving.jobs.store import open_store
    from serving.settings import get_settings

    store = open_store(get_settings().jobs)
    await store.open()
    payload = b"x" * 100
    found, queued = [], 0

    def job() -> NewJob:
        return NewJob(new_job_id(), "depth", payload, "{}", max_retries=3, ttl_seconds=86_400)

    for depth in depths:
        while queued < depth:
            some = min(200, depth - queued)
            await asyncio.gather(*(store.submit(job()) for _ in range(some)))
            queued += some
        times = []
        for _ in range(claims):
            began = time.perf_counter()
            (claimed,) = await store.claim("depth", "benchmark", limit=1)
            times.append((time.perf_counter() - began) * 1e3)
            await store.succeed(claimed.lease, b"{}")
        queued -= claims
        found.append(Depth(depth, percentile(sorted(times), 0.5), psutil.Process().memory_info().rss / MEGABYTE))
    await store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs_program", description=__doc__)
    parser.add_argument("what", choices=["inside", "depths"])
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--depths", type=int, nargs="+", default=[1_000, 100_000])
    given = parser.parse_args()
    if given.what == "inside":
        found: Any = asdict(uvloop.run(measure_inside(given.count)))
    else:
        found = [asdict(depth) for depth in uvloop.run(measure_depths(given.depths, given.count))]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
