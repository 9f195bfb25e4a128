"""The overload benchmark: ten times the sustainable load, offered open-loop, and what it does to the server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import inception_v3, iris
from benchmarks.contenders import image_settings, service
from benchmarks.load import Generator, Load, LoadError, LoadResult
from benchmarks.measurement import Question, ask
from benchmarks.memory import PeakMemory
from benchmarks.models import limits, model_file
from benchmarks.offered import Offered, OpenLoad
from benchmarks.open_loop_process import offer_in_process
from benchmarks.options import Options
from benchmarks.overload_report import Case, Overload, tables
from benchmarks.photo import photo
from benchmarks.results import Section
from benchmarks.server import Running, Server, ServerError, running

NAME = "overload"
TITLE = "overload: ten times the sustainable load, open-loop"
IRIS_SERVICE, IMAGE_SERVICE = "service_overload", "service_images_overload"
SERVERS = (IMAGE_SERVICE, IRIS_SERVICE)
FACTOR = 10
SECONDS = 60.0
SUSTAINED_SECONDS = 10.0
WARM_UP_SECONDS = 3.0
LONE_SECONDS = 3.0
PAUSE_SECONDS = 1.0
"""Between the last answer and the lone client."""
SETTLE_SECONDS = 30.0
"""Between the last answer and the last look at the memory."""
SPARE_CONNECTIONS = 512
"""More than twice the bound, so that the bound and not the generator is what fills up."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One model's route under overload; `connections` are those of the closed loop before."""

    server: Server
    question: Question
    connections: int
    bound_rows: int


def run(options: Options) -> Section:
    """Both models one after the other; one that fails does not stop the other."""
    seconds = options.seconds or SECONDS
    found: list[Overload] = []
    failures: list[str] = []
    for scene in scenes():
        if not options.wants(scene.server.name):
            continue
        try:
            overload = _measure(scene, seconds, options)
        except (ServerError, LoadError) as error:
            failures.append(str(error))
            options.progress(f"FAILED {error}")
            continue
        found.append(overload)
        if overload.offered.improper:
            failures.append(f"{scene.server.name}: {overload.offered.improper} not 2xx, 429 with Retry-After or 504")
    notes = [
        f"sustainable: closed loop, {SUSTAINED_SECONDS:g} s; then {FACTOR} × that for {seconds:g} s, one row or image "
        "per request, each at its own time; latencies are from that time",
        "the generator shares the cores with the server; what it was too late for, or had no free connection for, is "
        "not sent and not in the offered rate",
        f"lone client: p50 of {LONE_SECONDS:g} s, before the overload and from {PAUSE_SECONDS:g} s after its last "
        f"answer; memory is resident, of all server processes, the last figure {SETTLE_SECONDS:g} s after it",
    ]
    return Section(NAME, TITLE, tables(found), notes, failures)


def scenes() -> list[Scene]:
    """The batched routes, images first: what they do takes longest."""
    quiet = {"SERVING__LOGGING__PREDICTIONS": "false"}
    alone = {**quiet, "SERVING__MODELS__INCEPTION_V3__ENABLED": "false"}
    images = {**quiet, **image_settings(threads=2)}
    return [
        Scene(
            service(IMAGE_SERVICE, "this service, both models", inception_v3.BATCHED, images, start_limit=120),
            Question({"Content-Type": "image/jpeg"}, photo(), check=inception_v3.check_answer),
            connections=16,
            bound_rows=limits(inception_v3.NAME).max_queue_rows,
        ),
        Scene(
            service(IRIS_SERVICE, "this service, iris only", "/iris/predict/batched", alone),
            iris.question(model_file(iris.NAME)),
            connections=32,
            bound_rows=limits(iris.NAME).max_queue_rows,
        ),
    ]


def _measure(scene: Scene, seconds: float, options: Options) -> Overload:
    """Start, sustain, overload, and look after it.

    Raises:
        ServerError: it did not start, or its answer was wrong before or after the overload.
        LoadError: a generator failed, or nothing could be sustained.
    """
    with running(scene.server) as up:
        ask(up, scene.question)
        sustained = _sustain(up, scene, options)
        time.sleep(PAUSE_SECONDS)
        lone_before = _closed(up, scene.question, options.generator, 1, LONE_SECONDS).p50_ms
        rss_before = up.total_rss_mb()
        options.progress(f"  lone client p50 {lone_before:.2f} ms, RSS {rss_before:.0f} MB")
        with PeakMemory(up.total_rss_mb) as memory:
            offered = offer_in_process(_open_load(up, scene, sustained * FACTOR, seconds))
        _say(offered, options)
        time.sleep(max(0.0, offered.ended_at + PAUSE_SECONDS - time.time()))
        late = time.time() - offered.ended_at
        lone_after = _closed(up, scene.question, options.generator, 1, LONE_SECONDS).p50_ms
        options.progress(f"  lone client p50 {lone_after:.2f} ms, from {late:.1f} s after the last answer")
        time.sleep(max(0.0, offered.ended_at + SETTLE_SECONDS - time.time()))
        rss_after = up.total_rss_mb()
        options.progress(f"  RSS at peak {memory.peak:.0f} MB, afterwards {rss_after:.0f} MB")
        ask(up, scene.question)
    return Overload(
        case=Case(scene.server.name, scene.server.path, scene.bound_rows, sustained, FACTOR),
        offered=offered,
        lone_before_ms=lone_before,
        lone_after_ms=lone_after,
        rss_before_mb=rss_before,
        rss_peak_mb=memory.peak,
        rss_after_mb=rss_after,
    )


def _sustain(up: Running, scene: Scene, options: Options) -> float:
    """Requests per second that the server answers when every client waits for its answer."""
    _closed(up, scene.question, options.generator, scene.connections, WARM_UP_SECONDS)
    result = _closed(up, scene.question, options.generator, scene.connections, SUSTAINED_SECONDS)
    options.progress(f"{up.server.title}: {result.requests_per_second:,.1f} req/s at c{scene.connections}")
    if not result.requests_per_second or result.non_2xx or result.errors:
        raise LoadError(
            f"{up.server.name}: no sustainable load at c{scene.connections}: "
            f"{result.non_2xx} non-2xx, {result.errors} errors"
        )
    return result.requests_per_second


def _closed(up: Running, question: Question, generator: Generator, connections: int, seconds: float) -> LoadResult:
    return generator.run(Load(up.url(), connections, seconds, question.method, question.headers, question.body))


def _open_load(up: Running, scene: Scene, rate: float, seconds: float) -> OpenLoad:
    return OpenLoad(
        url=up.url(),
        rate=rate,
        seconds=seconds,
        connections=2 * scene.bound_rows + SPARE_CONNECTIONS,
        body=scene.question.body,
        headers=scene.question.headers,
        method=scene.question.method,
    )


def _say(offered: Offered, options: Options) -> None:
    statuses: Sequence[str] = [f"{count:,} × {status}" for status, count in offered.statuses.items()]
    options.progress(
        f"  offered {offered.offered_per_second:,.0f}/s: {', '.join(statuses)}, {offered.broken} broken, "
        f"{offered.unanswered} unanswered; accepted p50 {offered.accepted_p50_ms:.0f} ms, "
        f"p99 {offered.accepted_p99_ms:.0f} ms; sent late by p99 {offered.lag_p99_ms:.1f} ms"
    )
