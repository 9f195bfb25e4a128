"""The jobs benchmark: submitting, waiting and working, with jobs in SQLite and in Redis."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime

from benchmarks import inception_v3
from benchmarks.contenders import BIN, image_settings, service
from benchmarks.jobs_program import HEADERS, PATH, Depth, Inside, image_file
from benchmarks.load import Load, LoadResult, percentile
from benchmarks.models import model_file
from benchmarks.options import Options
from benchmarks.photo import photo
from benchmarks.raw_engine import EngineResult, measure_round, median_round
from benchmarks.redis_server import redis_is_installed, redis_server
from benchmarks.results import Section
from benchmarks.server import ROOT, Running, Server, ServerError, running
from benchmarks.table import NOTHING, Table, figure, ratio
from benchmarks.targets import Target, at_most, targets_table

NAME = "jobs"
TITLE = "jobs: submitted, kept, worked off"
ENGINE = "raw_engine_jobs"
STORES = ("jobs_sqlite", "jobs_redis")
SERVERS = (ENGINE, *STORES)
SUBMIT_CONNECTIONS = 16
SUBMIT_SECONDS = 5.0
STARTS = 60
IMAGES = 64
BATCHES = (1, 4, 8)
ENGINE_SECONDS = 4.0
INSIDE_SUBMISSIONS = 800
IRIS = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}).encode()
JSON = {"Content-Type": "application/json"}
ROOM = {"SERVING__JOBS__MAX_QUEUE_JOBS": "1000000", "SERVING__JOBS__MAX_QUEUE_BYTES": str(2**40)}


@dataclass(frozen=True, slots=True)
class Images:
    """Images per second of jobs in one round, and of the raw engine at its best batch size right before."""

    jobs: float
    engine: float


@dataclass(slots=True)
class StoreResult:
    """What one store did; times in milliseconds, rates per second, images by round."""

    inside: Inside
    http: LoadResult
    starts_ms: list[float]
    depths: list[Depth]
    images: list[Images] = field(default_factory=list)

    @property
    def images_per_second(self) -> float:
        return statistics.median(found.jobs for found in self.images)

    @property
    def share_of_engine(self) -> float:
        """The median of the rounds' own shares: a machine's speed drifts from one round to the next."""
        return statistics.median(found.jobs / found.engine for found in self.images)


@dataclass(slots=True)
class Results:
    stores: dict[str, StoreResult] = field(default_factory=dict)
    engine: dict[int, EngineResult] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run(options: Options) -> Section:
    """What each store does, one after the other; then images in rounds, the raw engine before each of them."""
    results = Results()
    threads = min(2, os.cpu_count() or 1)
    for name in STORES:
        if not options.wants(name):
            continue
        if name == "jobs_redis" and not redis_is_installed():
            results.left_out.append(f"`{name}` is left out: there is no redis-server on PATH")
            continue
        try:
            results.stores[name] = _measure_store(name, threads, options)
        except ServerError as error:
            results.failures.append(str(error))
            options.progress(f"FAILED {error}")
    if options.wants(ENGINE):
        _measure_images(results, threads, options)
    tables = [_submitting(results), _working(results), _depths(results), targets_table(targets(results))]
    notes = [
        f"a submission is a JPEG padded to 200 kB; inside: {INSIDE_SUBMISSIONS} submissions to the application in the "
        "measuring process, one after the other, then 16 at once while a timer of 1 ms watches the event loop; HTTP: "
        f"`bentoml serve` with one API worker, c{SUBMIT_CONNECTIONS}, {SUBMIT_SECONDS:g} s, no worker",
        f"started: `serving worker` with one iris row a job, {STARTS} jobs, each submitted once the last had "
        "succeeded; by the timestamps of the store",
        f"images: the median of {options.rounds} rounds of {IMAGES} InceptionV3 jobs (640×480 JPEG) queued before "
        "`serving worker` starts, from the first start to the last end; the raw engine at its best batch size right "
        f"before, which decodes nothing and has the same {threads} threads",
        "Redis: a private one with `appendonly yes`, `appendfsync everysec`; SQLite: WAL, synchronous=FULL",
        *results.left_out,
    ]
    return Section(NAME, TITLE, [table for table in tables if table.rows], notes, results.failures)


def _measure_store(name: str, threads: int, options: Options) -> StoreResult:
    with _environment(name, threads) as environment:
        options.progress(f"{name}: submitting inside the API process")
        inside = Inside(**_program(["inside", "--count", str(INSIDE_SUBMISSIONS)], environment))
    with _environment(name, threads) as environment, running(_api(name, environment)) as up:
        load = Load(up.url(PATH), SUBMIT_CONNECTIONS, SUBMIT_SECONDS, "POST", HEADERS, image_file())
        submitted = options.generator.run(load)
        options.progress(f"{name}: {submitted.requests_per_second:,.0f} jobs/s accepted over HTTP")
    with _environment(name, threads) as environment, running(_api(name, environment)) as up:
        starts = _starts(up, environment)
        options.progress(f"{name}: started after p50 {statistics.median(starts):.1f} ms")
    with _environment(name, threads) as environment:
        depths = [Depth(**found) for found in _program(["depths", "--count", "300"], environment)]
        options.progress(f"{name}: claim p50 {', '.join(f'{depth.claim_p50_ms:.2f}' for depth in depths)} ms")
    return StoreResult(inside, submitted, starts, depths)


def _measure_images(results: Results, threads: int, options: Options) -> None:
    model = model_file(inception_v3.NAME)
    rounds = []
    for _ in range(options.rounds):
        for name, found in results.stores.items():
            rounds.append(measure_round(model, threads, BATCHES, ENGINE_SECONDS, options.progress))
            best = max(engine.images_per_second for engine in rounds[-1].values())
            try:
                with _environment(name, threads) as environment, running(_api(name, environment)) as up:
                    found.images.append(Images(_images(up, environment), best))
            except ServerError as error:
                results.failures.append(str(error))
                options.progress(f"FAILED {error}")
                continue
            options.progress(f"{name}: {found.images[-1].jobs:.1f} images/s")
    results.engine = median_round(rounds) if rounds else {}


@contextmanager
def _environment(name: str, threads: int) -> Iterator[dict[str, str]]:
    """The settings of a service and a worker with an empty store of its own."""
    with (
        tempfile.TemporaryDirectory() as directory,
        redis_server() if name == "jobs_redis" else nullcontext(f"sqlite:///{directory}/jobs.db") as url,
    ):
        yield {
            **image_settings(threads),
            **ROOM,
            "SERVING__JOBS__URL": url,
            "SERVING__JOBS__EMBEDDED_WORKER": "false",
            "SERVING__JOBS__WORKER_PORT": "0",
            "SERVING__LOGGING__PREDICTIONS": "false",
        }


def _api(name: str, environment: Mapping[str, str]) -> Server:
    return service(name, f"this service, {name}", PATH, environment)


def _program(arguments: Sequence[str], environment: Mapping[str, str]) -> object:
    command = [sys.executable, "-m", "benchmarks.jobs_program", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode != 0:
        raise ServerError(f"{' '.join(arguments)}: ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def _worker(model: str, environment: Mapping[str, str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [BIN / "serving", "worker", "--model", model],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(40)
            finally:
                process.kill()


def _starts(up: Running, environment: Mapping[str, str]) -> list[float]:
    """Milliseconds from accepted to started, of jobs that find the worker idle."""
    with _worker("iris", environment):
        found = []
        for number in range(STARTS + 5):
            job = _finished(up, _submit(up, "/iris/jobs", JSON, IRIS))
            if number >= 5:
                found.append((_moment(job, "started_at") - _moment(job, "created_at")) * 1e3)
            time.sleep(0.02)
        return found


def _images(up: Running, environment: Mapping[str, str]) -> float:
    picture = photo()
    ids = [_submit(up, PATH, HEADERS, picture) for _ in range(IMAGES)]
    with _worker("inception_v3", environment):
        jobs = [_finished(up, job_id) for job_id in ids]
    first = min(_moment(job, "started_at") for job in jobs)
    return IMAGES / (max(_moment(job, "finished_at") for job in jobs) - first)


def _submit(up: Running, path: str, headers: Mapping[str, str], body: bytes) -> str:
    status, answer = up.request("POST", path, headers, body)
    if status != 202:
        raise ServerError(f"{path} answers {status}: {answer[:500]!r}")
    return str(json.loads(answer)["job_id"])


def _finished(up: Running, job_id: str, limit: float = 180.0) -> dict[str, str]:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        status, answer = up.request("GET", f"/jobs/{job_id}?wait=20", {}, b"")
        job: dict[str, str] = json.loads(answer)
        if status != 200 or job["status"] not in ("queued", "running", "succeeded"):
            raise ServerError(f"job {job_id}: {status} {answer[:500]!r}")
        if job["status"] == "succeeded":
            return job
    raise ServerError(f"job {job_id} had not finished after {limit:.0f} s")


def _moment(job: Mapping[str, str], name: str) -> float:
    return datetime.fromisoformat(job[name]).timestamp()


def _submitting(results: Results) -> Table:
    rows = [
        [
            *(name, figure(found.inside.p50_ms, 2), figure(found.inside.p99_ms, 2)),
            *(figure(found.inside.accepted_per_second), figure(found.inside.blocked_ms, 1)),
            *(figure(found.inside.idle_blocked_ms, 1), figure(found.http.requests_per_second)),
            *(figure(found.http.p50_ms, 1), figure(found.http.p99_ms, 1)),
            figure(found.http.non_2xx + found.http.errors),
        ]
        for name, found in results.stores.items()
    ]
    columns = ("store", "inside p50 ms", "p99 ms", "jobs/s at 16", "loop blocked at most, ms", "idle, ms")
    return Table("Submitting 200 kB", [*columns, "HTTP c16 jobs/s", "p50 ms", "p99 ms", "not 202"], rows)


def _working(results: Results) -> Table:
    best = _best(results)
    rows = [
        [
            f"raw engine, batch {batch}",
            NOTHING,
            NOTHING,
            figure(found.images_per_second, 1),
            ratio(found.images_per_second, best),
        ]
        for batch, found in results.engine.items()
    ]
    rows += [
        [
            *(
                name,
                figure(statistics.median(found.starts_ms), 1),
                figure(percentile(sorted(found.starts_ms), 0.99), 1),
            ),
            *(
                (figure(found.images_per_second, 1), figure(found.share_of_engine, 2))
                if found.images
                else (NOTHING,) * 2
            ),
        ]
        for name, found in results.stores.items()
    ]
    return Table("Working", ["store", "submitted to started p50 ms", "p99 ms", "images/s", "× best raw engine"], rows)


def _depths(results: Results) -> Table:
    rows = [
        [f"{name}, {depth.queued:,} queued", figure(depth.claim_p50_ms, 2), figure(depth.rss_mb)]
        for name, found in results.stores.items()
        for depth in found.depths
    ]
    return Table("Claiming from a long queue", ["store", "claim p50 ms", "RSS of the process, MB"], rows)


def _best(results: Results) -> float | None:
    return max((found.images_per_second for found in results.engine.values()), default=None)


def targets(results: Results) -> list[Target]:
    """The project's targets for jobs."""
    found: list[Target] = []

    def value(name: str, read: Callable[[StoreResult], float | None]) -> float | None:
        return read(results.stores[name]) if name in results.stores else None

    for name, start_ms in (("jobs_sqlite", 50.0), ("jobs_redis", 5.0)):
        found += [
            at_most(
                f"{name}: submit 200 kB inside the API process, p50", 2.0, value(name, lambda s: s.inside.p50_ms), " ms"
            ),
            at_most(f"{name}: event loop blocked at most", 10.0, value(name, lambda s: s.inside.blocked_ms), " ms"),
            at_most(
                f"{name}: submitted to started, p50",
                start_ms,
                value(name, lambda s: statistics.median(s.starts_ms)),
                " ms",
            ),
            Target(
                f"{name}: InceptionV3 jobs against the raw engine's best batch size",
                0.9,
                value(name, lambda s: s.share_of_engine if s.images else None),
                at_least=True,
                unit=" ×",
            ),
            at_most(
                f"{name}: claim with 100,000 queued against 1,000",
                2.0,
                value(name, lambda s: s.depths[-1].claim_p50_ms / s.depths[0].claim_p50_ms),
                " ×",
            ),
            at_most(
                f"{name}: memory of the submitting process with 100,000 queued against 1,000",
                1.1,
                value(name, lambda s: s.depths[-1].rss_mb / s.depths[0].rss_mb),
                " ×",
            ),
        ]
    for where, accepted in (
        ("inside the API process", value("jobs_redis", lambda s: s.inside.accepted_per_second)),
        ("over HTTP", value("jobs_redis", lambda s: s.http.requests_per_second)),
    ):
        what = f"jobs_redis: jobs accepted at 16 concurrent, {where}"
        found.append(Target(what, 1000, accepted, at_least=True, unit=" per s"))
    return found
