"""The batching benchmark: `/…/predict/batched` of both models against peers that batch, and the raw engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import inception_v3, iris
from benchmarks.batched_server import Found, measure_batched
from benchmarks.batching_contenders import (
    IMAGE_SERVERS,
    IMAGE_SERVICE,
    IRIS_SERVERS,
    IRIS_SERVICE,
    STOCK_IMAGES,
    STOCK_IRIS,
    Contender,
    image_contenders,
    iris_contenders,
)
from benchmarks.burst import PAUSE_SECONDS, BurstPlan
from benchmarks.environments import available
from benchmarks.measurement import Plan
from benchmarks.models import model_file
from benchmarks.options import Options
from benchmarks.photo import HEIGHT, WIDTH, photo
from benchmarks.raw_engine import EngineResult, measure_round, median_round
from benchmarks.results import Section
from benchmarks.server import ServerError
from benchmarks.table import NOTHING, Table, figure, ratio
from benchmarks.targets import Target, at_least, targets_table

NAME = "batching"
TITLE = "batching: requests that arrive together, one API worker each"
ENGINE = "raw_engine_batches"
SERVERS = (*IRIS_SERVERS, ENGINE, *IMAGE_SERVERS)
IRIS_CONNECTIONS = (1, 8, 32)
IMAGE_CONNECTIONS = (1, 8, 16, 32)
BATCHES = (1, 2, 4, 8, 16)
IRIS_SECONDS, IMAGE_SECONDS = 4.0, 10.0
IMAGE_BURST = BurstPlan(warm_up_seconds=2.0, lone_seconds=5.0, burst_seconds=5.0)


@dataclass(slots=True)
class Results:
    """Everything that was measured; the raw engine by batch size."""

    iris: Found = field(default_factory=Found)
    images: Found = field(default_factory=Found)
    engine: dict[int, EngineResult] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run(options: Options) -> Section:
    """Iris first; then the raw image engine, the image servers, and the raw engine again, as speed drifts."""
    results = Results()
    iris_seconds, image_seconds = options.seconds or IRIS_SECONDS, options.seconds or IMAGE_SECONDS
    threads = min(2, os.cpu_count() or 1)
    if any(options.wants(name) for name in IRIS_SERVERS):
        contenders = _chosen(iris_contenders(model_file(iris.NAME)), options, results)
        plan = Plan(IRIS_CONNECTIONS, options.rounds, iris_seconds, starts=options.rounds)
        results.iris = measure_batched(contenders, options.generator, plan, BurstPlan(), options.progress)
    if any(options.wants(name) for name in (ENGINE, *IMAGE_SERVERS)):
        try:
            _run_images(options, image_seconds, threads, results)
        except ServerError as error:
            results.failures.append(str(error))
            options.progress(f"FAILED {error}")
    tables = [
        _throughput("iris", "req/s", results.iris, STOCK_IRIS),
        _throughput("InceptionV3", "images/s", results.images, (STOCK_IMAGES,), results.engine),
        _lone(results),
        targets_table(targets(results)),
    ]
    tables = [table for table in tables if table.rows]
    failures = [*results.iris.failures, *results.images.failures, *results.failures]
    return Section(NAME, TITLE, tables, _notes(options, results, iris_seconds, image_seconds, threads), failures)


def _run_images(options: Options, seconds: float, threads: int, results: Results) -> None:
    model = model_file(inception_v3.NAME)
    engine_round = partial(measure_round, model, threads, BATCHES, seconds, options.progress)
    rounds: list[dict[int, EngineResult]] = []
    if options.wants(ENGINE):
        rounds += [engine_round() for _ in range((options.rounds + 1) // 2)]
    contenders = _chosen(image_contenders(model, photo(), threads), options, results)
    plan = Plan(IMAGE_CONNECTIONS, options.rounds, seconds, warm_up_seconds=3.0, starts=options.rounds)
    results.images = measure_batched(contenders, options.generator, plan, IMAGE_BURST, options.progress)
    if options.wants(ENGINE):
        rounds += [engine_round() for _ in range(options.rounds // 2)]
        results.engine = median_round(rounds)


def _chosen(contenders: list[Contender], options: Options, results: Results) -> list[Contender]:
    """Those that are wanted and installed."""
    here, left_out = available(options.chosen(contender.server for contender in contenders))
    results.left_out += left_out
    for line in left_out:
        options.progress(line)
    return [contender for contender in contenders if contender.server in here]


def _notes(options: Options, results: Results, iris_seconds: float, image_seconds: float, threads: int) -> list[str]:
    measured = [*results.iris.servers.values(), *results.images.servers.values()]
    return [
        f"iris: one row per request, {options.rounds} rounds of {iris_seconds:g} s; MLServer in V2 JSON, "
        "`stock_batchable` answers a bare array, everybody else in the same JSON; peers with the same ONNX file and "
        "session options",
        f"InceptionV3: a JPEG of {WIDTH}×{HEIGHT} pixels as the raw body, {options.rounds} rounds of "
        f"{image_seconds:g} s; the raw engine decodes nothing and has the same {threads} threads; half of its rounds "
        "before the servers' and half after",
        f"lone client: median latency on {options.rounds} fresh servers each, before a burst at c32 and "
        f"{PAUSE_SECONDS:g} s after its end; the start with the median ratio is shown",
        *(f"`{batched.server.name}`: {batched.server.title}" for batched in measured),
        *results.left_out,
        *(f"of a peer: {remark}" for remark in (*results.iris.remarks, *results.images.remarks)),
    ]


def _throughput(
    model: str,
    unit: str,
    found: Found,
    bases: Sequence[str],
    engine: Mapping[int, EngineResult] | None = None,
) -> Table:
    best = _best(engine or {})
    against = [name for name in bases if name in found.servers]
    rows = [
        [
            *(f"raw engine, batch {batch}", figure(result.images_per_second, 1), NOTHING),
            *(figure(result.p50_ms, 1), figure(result.p99_ms, 1), NOTHING, NOTHING),
            *(NOTHING for _ in against),
            *([ratio(result.images_per_second, best)] if best else []),
        ]
        for batch, result in (engine or {}).items()
    ]
    for name, batched in found.servers.items():
        for connections, point in batched.points.items():
            rates = [found.servers[base].points[connections].requests_per_second for base in against]
            rows.append(
                [
                    *(f"{name} c{connections}", figure(point.requests_per_second, 1)),
                    f"{figure(point.lowest, 1)}–{figure(point.highest, 1)}",
                    *(figure(point.p50_ms, 2), figure(point.p99_ms, 2), figure(point.non_2xx), figure(point.errors)),
                    *(ratio(point.requests_per_second, rate) for rate in rates),
                    *([ratio(point.requests_per_second, best)] if best else []),
                ]
            )
    columns = ["server", unit, "lowest–highest", "p50 ms", "p99 ms", "non-2xx", "errors", *(f"× {n}" for n in against)]
    return Table(f"Throughput and latency, {model}", [*columns, *(["× best raw engine"] if best else [])], rows)


def _lone(results: Results) -> Table:
    rows = [
        [
            *(name, figure(batched.burst.before_ms, 3), figure(batched.burst.after_ms, 3)),
            *(figure(batched.burst.growth, 2), figure(batched.rss_mb), figure(batched.start_seconds, 2)),
        ]
        for found in (results.iris, results.images)
        for name, batched in found.servers.items()
    ]
    columns = ("server", "lone p50 before, ms", "after, ms", "after / before", "RSS, MB", "ready after, s")
    note = "memory is resident, of all processes after the load; pages that they share count once for each"
    return Table("A lone client before and after a burst, memory and start-up", columns, rows, [note])


def _best(engine: Mapping[int, EngineResult]) -> float | None:
    return max((result.images_per_second for result in engine.values()), default=None)


def targets(results: Results) -> list[Target]:
    """The project's targets for the batched routes; stock BentoML counts with the better of its two forms."""
    images = _rate(results.images, 16)
    return [
        *_model_targets(iris.NAME, results.iris, IRIS_SERVICE, STOCK_IRIS),
        *_model_targets(inception_v3.NAME, results.images, IMAGE_SERVICE, (STOCK_IMAGES,)),
        at_least(
            "inception_v3 c16 against the raw engine's best batch size",
            0.95,
            images(IMAGE_SERVICE),
            _best(results.engine),
            ("images/s", "raw"),
        ),
    ]


def _rate(found: Found, connections: int) -> Callable[[str], float | None]:
    def rate(name: str) -> float | None:
        return found.servers[name].points[connections].requests_per_second if name in found.servers else None

    return rate


def _model_targets(model: str, found: Found, service: str, stock: tuple[str, ...]) -> list[Target]:
    rate = _rate(found, 32)
    base = max((value for name in stock if (value := rate(name)) is not None), default=None)
    ours = found.servers.get(service)
    point = ours.points[32] if ours and ours.points[32].lowest else None  # no answer is not a good one
    burst = ours.burst if ours else None
    return [
        at_least(f"{model} c32 against stock batchable=True", 1.5, rate(service), base, ("per s", "stock")),
        Target(
            f"{model} c32: not 2xx", 0, point.non_2xx + point.errors if point else None, at_least=False, unit=" answers"
        ),
        Target(
            f"{model}: lone client after a c32 burst against before",
            1.1,
            burst.growth if burst else None,
            at_least=False,
            unit=" ×",
            evidence=f"p50 {burst.before_ms:.3f} ms before, {burst.after_ms:.3f} ms after" if burst else "",
        ),
    ]
