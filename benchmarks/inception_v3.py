"""The InceptionV3 benchmark: what is left of the engine's speed when images come over HTTP."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass, field
from functools import partial

from benchmarks.contenders import image_settings, service
from benchmarks.measurement import Plan, Point, Question, ask, load_rounds
from benchmarks.models import model_file
from benchmarks.options import Options
from benchmarks.photo import HEIGHT, WIDTH, photo
from benchmarks.raw_engine import EngineResult, measure_round, median_round
from benchmarks.results import Section
from benchmarks.server import Running, Server, ServerError, running
from benchmarks.table import NOTHING, Table, figure, ratio
from benchmarks.targets import Target, at_least, at_most, targets_table

NAME = "inception_v3"
TITLE = "inception_v3: one JPEG per request, one API worker"
ENGINE, SERVICE = "raw_engine", "service_images"
SERVERS = (ENGINE, SERVICE)
PATH = "/inception_v3/predict"
BATCHED = "/inception_v3/predict/batched"
CONNECTIONS = {PATH: (1, 2, 4, 8), BATCHED: (8, 16)}
BATCHES = (1, 8)
SECONDS = 10.0
WARM_UP_SECONDS = 3.0
TOP_K = 5


@dataclass(slots=True)
class Found:
    """Everything that was measured; engine figures by batch size, points by path and number of connections."""

    engine: dict[int, EngineResult] = field(default_factory=dict)
    points: dict[str, dict[int, Point]] = field(default_factory=dict)
    start_seconds: float | None = None
    worker_rss_mb: float | None = None
    total_rss_mb: float | None = None
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run(options: Options) -> Section:
    """The raw engine, the service, and the raw engine again, because a machine's speed drifts."""
    model = model_file(NAME)
    threads = min(2, os.cpu_count() or 1)
    seconds = options.seconds or SECONDS
    jpeg = photo()
    found = Found()
    engine_round = partial(measure_round, model, threads, BATCHES, seconds, options.progress)
    try:
        before, after = (options.rounds + 1) // 2, options.rounds // 2
        rounds: list[dict[int, EngineResult]] = []
        if options.wants(ENGINE):
            rounds += [engine_round() for _ in range(before)]
        if options.wants(SERVICE):
            _measure_service(threads, jpeg, seconds, options, found)
        if options.wants(ENGINE):
            rounds += [engine_round() for _ in range(after)]
            found.engine = median_round(rounds)
    except ServerError as error:
        found.failures.append(str(error))
        options.progress(f"FAILED {error}")
    notes = [
        f"request: `POST` of a JPEG, {WIDTH}×{HEIGHT} pixels, {len(jpeg) / 1e3:.0f} kB, as the raw body; "
        f"{options.rounds} rounds of {seconds:g} s each after a warm-up of {WARM_UP_SECONDS:g} s",
        f"raw engine: ONNX Runtime in a process of its own on uint8 arrays, nothing decoded; {threads} threads, "
        "as the service's runner; half of its rounds before the service's and half after",
        *found.notes,
    ]
    tables = [_throughput(found), _footprint(found), targets_table(targets(found))]
    return Section(NAME, TITLE, tables, notes, found.failures)


def server(threads: int) -> Server:
    """This service as it is, both models, with a given number of engine threads."""
    return service(SERVICE, "this service, both models", PATH, image_settings(threads), start_limit=120)


def _measure_service(threads: int, jpeg: bytes, seconds: float, options: Options, found: Found) -> None:
    question = Question(headers={"Content-Type": "image/jpeg"}, body=jpeg, check=check_answer)
    service_images = server(threads)
    starts = []
    for _ in range(2):
        with running(service_images) as up:
            starts.append(up.start_seconds)
    with running(service_images) as up:
        starts.append(up.start_seconds)
        found.start_seconds = statistics.median(starts)
        options.progress(f"{service_images.title}: ready after {found.start_seconds:.2f} s")
        for path, connections in CONNECTIONS.items():
            if path != PATH and not _has(up, path, question):
                found.notes.append(f"`{path}` is not there and was not measured")
                continue
            ask(up, question, path)
            options.progress(path)
            plan = Plan(connections, options.rounds, seconds, warm_up_seconds=WARM_UP_SECONDS)
            found.points[path] = load_rounds(up, question, options.generator, plan, options.progress, path=path)
            ask(up, question, path)
            found.failures += [
                f"{path} c{point.connections}: {point.non_2xx} non-2xx, {point.errors} errors"
                for point in found.points[path].values()
                if point.non_2xx or point.errors
            ]
        found.worker_rss_mb, found.total_rss_mb = up.worker_rss_mb(), up.total_rss_mb()


def _has(up: Running, path: str, question: Question) -> bool:
    status, _ = up.request(question.method, path, question.headers, question.body)
    return status != 404


def check_answer(answer: bytes) -> None:
    """Best first, probabilities, as many as asked for. Which label is right depends on the weights.

    Raises:
        ValueError: it is not so.
    """
    predictions = json.loads(answer)["predictions"]
    probabilities = [float(prediction["probability"]) for prediction in predictions]
    if len(predictions) != TOP_K or not all(prediction["label"] for prediction in predictions):
        raise ValueError(f"not {TOP_K} labels")
    if probabilities != sorted(probabilities, reverse=True) or not 0 < sum(probabilities) <= 1 + 1e-3:
        raise ValueError("not probabilities, best first")


def _throughput(found: Found) -> Table:
    bases = {batch: result.images_per_second for batch, result in found.engine.items()}
    rows = [
        [
            *(f"raw engine, batch {batch}", figure(result.images_per_second, 1), NOTHING),
            *(figure(result.p50_ms, 1), figure(result.p99_ms, 1), NOTHING, NOTHING),
            *(ratio(result.images_per_second, bases.get(base)) for base in BATCHES),
        ]
        for batch, result in found.engine.items()
    ]
    rows += [
        [
            *(f"{path} c{point.connections}", figure(point.requests_per_second, 1)),
            f"{figure(point.lowest, 1)}–{figure(point.highest, 1)}",
            *(figure(point.p50_ms, 1), figure(point.p99_ms, 1), figure(point.non_2xx), figure(point.errors)),
            *(ratio(point.requests_per_second, bases.get(base)) for base in BATCHES),
        ]
        for path, points in found.points.items()
        for point in points.values()
    ]
    columns = ("what", "images/s", "lowest–highest", "p50 ms", "p99 ms", "non-2xx", "errors")
    return Table("Throughput and latency", (*columns, *(f"× raw batch {batch}" for batch in BATCHES)), rows)


def _footprint(found: Found) -> Table:
    row = [SERVICE, figure(found.worker_rss_mb), figure(found.total_rss_mb), figure(found.start_seconds, 2)]
    return Table(
        title="Memory and start-up",
        columns=("server", "RSS of the API worker, MB", "RSS of all processes, MB", "ready after, s"),
        rows=[row] if found.start_seconds is not None else [],
        notes=["memory is resident, after the load; of all processes, shared pages count once for each"],
    )


def targets(found: Found) -> list[Target]:
    """The project's targets for the image routes: at the number of connections that does best."""
    points = found.points.get(PATH, {}).values()
    best = max(points, key=lambda point: point.requests_per_second, default=None)
    raw = found.engine[1].images_per_second if found.engine else None
    what = f"{PATH} against the raw engine, batch 1" + (f" (best: c{best.connections})" if best else "")
    rate = best.requests_per_second if best else None
    return [
        at_least(what, 0.85, rate, raw, ("images/s", "raw")),
        at_most("ready after, both models", 3, found.start_seconds, " s"),
    ]
