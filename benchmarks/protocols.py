"""The protocols benchmark: the same iris rows through each of them, beside the servers that are known for it."""

from __future__ import annotations

from typing import TypeVar

from benchmarks import grpc_contenders, iris
from benchmarks.environments import available
from benchmarks.measurement import Measurement, Outcome, Plan, measure_all
from benchmarks.models import model_file
from benchmarks.options import Options
from benchmarks.protocol_contenders import BLOCK_ROWS, BLOCKS, SERVICE, Contender, contenders
from benchmarks.protocol_contenders import PEERS as HTTP_PEERS
from benchmarks.results import Section
from benchmarks.server import ServerError
from benchmarks.table import Table, figure, ratio
from benchmarks.targets import Target, at_least, targets_table

NAME = "protocols"
TITLE = "protocols: the same rows through each, one worker each"
PEERS = {**HTTP_PEERS, **grpc_contenders.PEERS}
SERVERS = (*SERVICE, *grpc_contenders.SERVICE, *(name for names in PEERS.values() for name in names), *BLOCKS)
CONNECTIONS = (1, 8, 32)
BLOCK_CONNECTIONS = (8,)
SECONDS = 4.0
AnyContender = TypeVar("AnyContender", Contender, grpc_contenders.GrpcContender)


def run(options: Options) -> Section:
    """Measure the wanted servers: one row in a request, then many.

    Raises:
        ServerError: none of them is installed.
    """
    model = model_file(iris.NAME)
    chosen, left_out = _chosen(contenders(model), options)
    over_grpc, left_out_too = _chosen(grpc_contenders.contenders(model), options)
    if not chosen and not over_grpc:
        raise ServerError("nothing to measure: no environment of a peer is installed; see `make bench-peers`")
    seconds = options.seconds or SECONDS
    outcome = Outcome()
    for contender in chosen:
        connections = BLOCK_CONNECTIONS if contender.server.name in BLOCKS else CONNECTIONS
        plan = Plan(connections, options.rounds, seconds, starts=1)
        found = measure_all([contender.server], contender.question, options.generator, plan, options.progress)
        outcome.measurements |= found.measurements
        outcome.failures += found.failures
    for caller in over_grpc:
        try:
            measured = caller.measure(Plan(CONNECTIONS, options.rounds, seconds, starts=1), options.progress)
        except ServerError as error:
            outcome.failures.append(str(error))
            options.progress(f"FAILED {error}")
        else:
            outcome.measurements[caller.server.name] = measured
            outcome.failures += measured.failures()
    notes = [
        f"one row: {options.rounds} rounds of {seconds:g} s at each of "
        f"{', '.join(f'c{connections}' for connections in CONNECTIONS)}; "
        f"{BLOCK_ROWS:,} rows: the same at c{BLOCK_CONNECTIONS[0]}; peers with the same ONNX file and session options",
        "gRPC: calls of `grpc.aio` from one process, which takes about as much time for a call as the servers do",
        *(f"`{contender.server.name}`: {contender.server.title}" for contender in [*chosen, *over_grpc]),
        *left_out,
        *left_out_too,
    ]
    tables = [_throughput(outcome), _blocks(outcome), targets_table(targets(outcome))]
    return Section(NAME, TITLE, [table for table in tables if table.rows], notes, outcome.failures)


def _chosen(every: list[AnyContender], options: Options) -> tuple[list[AnyContender], list[str]]:
    """Those that are wanted and installed, and a line about each of the others."""
    here, left_out = available(options.chosen(contender.server for contender in every))
    for line in left_out:
        options.progress(line)
    return [contender for contender in every if contender.server in here], left_out


def _throughput(outcome: Outcome) -> Table:
    measured = {name: found for name, found in outcome.measurements.items() if name not in BLOCKS}
    rows = [
        [
            *(f"{name} c{connections}", figure(point.requests_per_second)),
            f"{figure(point.lowest)}–{figure(point.highest)}",
            *(figure(point.p50_ms, 2), figure(point.p99_ms, 2), figure(point.non_2xx), figure(point.errors)),
        ]
        for name, found in measured.items()
        for connections, point in found.points.items()
    ]
    columns = ("server", "req/s", "lowest–highest", "p50 ms", "p99 ms", "non-2xx", "errors")
    return Table("One row in a request", columns, rows)


def _rows_per_second(measurement: Measurement | None) -> float | None:
    if measurement is None:
        return None
    return BLOCK_ROWS * measurement.points[BLOCK_CONNECTIONS[0]].requests_per_second


def _blocks(outcome: Outcome) -> Table:
    measured = {name: outcome.measurements[name] for name in BLOCKS if name in outcome.measurements}
    base = _rows_per_second(measured.get(BLOCKS[0]))
    rows = []
    for name, found in measured.items():
        rate = _rows_per_second(found)
        point = found.points[BLOCK_CONNECTIONS[0]]
        rows.append([name, figure(rate), figure(point.p50_ms, 2), figure(point.p99_ms, 2), ratio(rate, base)])
    columns = ("server", "rows/s", "p50 ms", "p99 ms", f"× {BLOCKS[0]}")
    return Table(f"{BLOCK_ROWS:,} rows in a request, c{BLOCK_CONNECTIONS[0]}", columns, rows)


def targets(outcome: Outcome) -> list[Target]:
    """Ahead of every peer on each protocol that both speak, and binary well ahead of JSON where there is much of it."""
    found = outcome.measurements

    def rate(name: str, connections: int) -> float | None:
        return found[name].points[connections].requests_per_second if name in found else None

    ahead = [
        at_least(
            f"{name} c{connections} against {peer}",
            1,
            rate(name, connections),
            rate(peer, connections),
            ("req/s", "peer"),
        )
        for name, peers in PEERS.items()
        for peer in peers
        for connections in CONNECTIONS
    ]
    json, binary = (_rows_per_second(found.get(name)) for name in BLOCKS)
    return [*ahead, at_least(f"{BLOCKS[1]} against {BLOCKS[0]}", 3, binary, json, ("rows/s", "JSON"))]
