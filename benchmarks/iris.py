"""The iris benchmark: one row per request, this service against its peers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import iris_variants, peers
from benchmarks.environments import available
from benchmarks.measurement import Measurement, Outcome, Plan, Question, measure_all
from benchmarks.models import model_file
from benchmarks.options import Options
from benchmarks.results import Section
from benchmarks.server import ServerError
from benchmarks.table import Table, figure, ratio
from benchmarks.targets import Target, at_least, at_most, targets_table

NAME = "iris"
TITLE = "iris: one row per request, one worker each"
SERVERS = (
    *("raw_asgi", "fastapi_async", "book_web_single", "stock_bentoml"),
    *("service", "service_log"),
)
PEERS = SERVERS[:4]
CONNECTIONS = (1, 8, 32)
SECONDS = 4.0
ROW = [5.1, 3.5, 1.4, 0.2]
TOLERANCE = 1e-5
JSON = {"Content-Type": "application/json"}


def run(options: Options) -> Section:
    """Measure the wanted servers.

    Raises:
        ServerError: none of them is installed.
    """
    model = model_file(NAME)
    servers, left_out = available(options.chosen([*peers(model), *iris_variants()]))
    for line in left_out:
        options.progress(line)
    if not servers:
        raise ServerError("nothing to measure: no environment of a peer is installed; see `make bench-peers`")
    plan = Plan(connections=CONNECTIONS, rounds=options.rounds, seconds=options.seconds or SECONDS)
    outcome = measure_all(servers, question(model), options.generator, plan, options.progress)
    notes = [
        f"request: `POST` of one row, `{_body().decode()}`; {plan.rounds} rounds of {plan.seconds:g} s at each of "
        f"{', '.join(f'c{connections}' for connections in plan.connections)} after a warm-up of "
        f"{plan.warm_up_seconds:g} s at c{max(plan.connections)}; start-up is the median of {plan.starts}",
        *(f"`{server.name}`: {server.title}" for server in servers),
        *left_out,
    ]
    tables = [
        throughput(outcome, [name for name in PEERS if name in outcome.measurements]),
        footprint(outcome),
        targets_table(targets(outcome)),
    ]
    return Section(NAME, TITLE, tables, notes, outcome.failures)


def _body() -> bytes:
    return json.dumps({"data": [ROW]}).encode()


def question(model: Path) -> Question:
    """The request, and the model's own answer to it."""
    return Question(JSON, _body(), check=checker(model, lambda answer: answer["prediction"]))


def checker(model: Path, probabilities: Callable[[Any], Any]) -> Callable[[bytes], None]:
    """A check of JSON answers; `probabilities` finds the rows of class probabilities in the decoded document."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = next(output.name for output in session.get_outputs() if output.type == "tensor(float)")
    expected = session.run([name], {session.get_inputs()[0].name: np.array([ROW], dtype=np.float32)})[0]

    def check(answer: bytes) -> None:
        found = np.array(probabilities(json.loads(answer)))
        if found.shape != expected.shape or not np.allclose(found, expected, atol=TOLERANCE):
            raise ValueError(f"not {expected.tolist()}")

    return check


def throughput(outcome: Outcome, bases: Sequence[str]) -> Table:
    """Each server at each number of connections, with its ratios to the servers `bases`."""
    rows = []
    for name, measurement in outcome.measurements.items():
        for connections, point in measurement.points.items():
            ratios = [
                ratio(
                    point.requests_per_second,
                    outcome.measurements[base].points[connections].requests_per_second,
                )
                for base in bases
            ]
            rows.append(
                [
                    *(f"{name} c{connections}", figure(point.requests_per_second)),
                    f"{figure(point.lowest)}–{figure(point.highest)}",
                    *(figure(point.p50_ms, 2), figure(point.p99_ms, 2), figure(point.non_2xx), figure(point.errors)),
                    *ratios,
                ]
            )
    columns = ("server", "req/s", "lowest–highest", "p50 ms", "p99 ms", "non-2xx", "errors")
    return Table("Throughput and latency", (*columns, *(f"× {base}" for base in bases)), rows)


def footprint(outcome: Outcome) -> Table:
    """Memory and start-up of each server."""
    return Table(
        title="Memory and start-up",
        columns=("server", "RSS of the worker, MB", "RSS of all processes, MB", "ready after, s"),
        rows=[
            [
                *(name, figure(measurement.worker_rss_mb), figure(measurement.total_rss_mb)),
                figure(measurement.start_seconds, 2),
            ]
            for name, measurement in outcome.measurements.items()
        ],
        notes=["memory is resident, after the load; of all processes, shared pages count once for each"],
    )


def targets(outcome: Outcome) -> list[Target]:
    """The project's targets for the iris routes."""
    c = max(CONNECTIONS)
    found = outcome.measurements
    service = found.get("service")

    def rate(name: str) -> float | None:
        return found[name].points[c].requests_per_second if name in found else None

    def compare(name: str, peer: str, bound: float) -> Target:
        return at_least(f"{name} c{c} against {peer}", bound, rate(name), rate(peer), ("req/s", "peer"))

    return [
        compare("service", "fastapi_async", 1.5),
        compare("service", "raw_asgi", 0.5),
        compare("service_log", "fastapi_async", 1.0),
        _tail(service, c),
        at_most("RSS of an iris-only worker", 200, service.worker_rss_mb if service else None, " MB"),
        at_most("ready after, iris only", 3, service.start_seconds if service else None, " s"),
    ]


def _tail(service: Measurement | None, connections: int) -> Target:
    what = f"service c{connections} p99 against its p50"
    if service is None:
        return Target(what, 3, None, at_least=False, unit=" ×")
    point = service.points[connections]
    evidence = f"p99 {point.p99_ms:.2f} ms, p50 {point.p50_ms:.2f} ms"
    return Target(what, 3, point.p99_ms / point.p50_ms, at_least=False, unit=" ×", evidence=evidence)
