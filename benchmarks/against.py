"""`python -m benchmarks iris --against DIR`: this checkout and another one side by side, one row of iris per request.

Both servers run at once, each from its own directory and environment, and are loaded in turn, so that what changes the
machine's speed changes both. Each serves what its own configuration says, with the few variables that every version of
this project knows.
"""

from __future__ import annotations

import statistics
import subprocess
from contextlib import ExitStack
from pathlib import Path

from benchmarks import iris
from benchmarks.contenders import SERVICE_NAME
from benchmarks.measurement import Measurement, Outcome, Plan, Question, ask, load_in_turn
from benchmarks.models import model_file
from benchmarks.options import Options
from benchmarks.results import Section
from benchmarks.server import HOST, ROOT, Server, ServerError, bentoml_worker, running

NAME = "against"
THIS, OTHER = "this", "other"
_SETTINGS = {"SERVING__GRPC__ENABLED": "false", "SERVING__LOGGING__PREDICTIONS": "false"}


def run(options: Options, other: Path) -> Section:
    """Measure both.

    Args:
        other: a checkout with `.venv`. The newest iris in the model store has to be one that it can read.

    Raises:
        ServerError: one of them does not start, or answers wrongly.
    """
    servers = [checkout(THIS, ROOT), checkout(OTHER, other.resolve())]
    question = iris.question(model_file(iris.NAME))
    plan = Plan(connections=iris.CONNECTIONS, rounds=options.rounds, seconds=options.seconds or iris.SECONDS)
    outcome = _measure(servers, question, plan, options)
    notes = [f"`{server.name}`: {server.title}; one API worker, predictions not logged, gRPC off" for server in servers]
    notes.append(
        f"both run at once and are loaded in turn: {plan.rounds} rounds of {plan.seconds:g} s at each number of "
        f"connections; start-up is the median of {plan.starts} starts alone, with every model of the configuration"
    )
    tables = [iris.throughput(outcome, [OTHER]), iris.footprint(outcome)]
    return Section(NAME, "iris: this checkout against another one", tables, notes, outcome.failures)


def checkout(name: str, root: Path) -> Server:
    """The service of a checkout.

    Raises:
        ServerError: it has no environment.
    """
    program = root / ".venv/bin/bentoml"
    if not program.is_file():
        raise ServerError(f"{program} is not there: run `make install` in {root}")
    return Server(
        name=name,
        title=f"revision {_revision(root)}",
        command=lambda port: [program, "serve", "service:svc", "--host", HOST, "--port", str(port)],
        path="/iris/predict",
        workers=bentoml_worker(SERVICE_NAME),
        environment=_SETTINGS,
        start_limit=120,
        root=root,
    )


def _revision(root: Path) -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _measure(servers: list[Server], question: Question, plan: Plan, options: Options) -> Outcome:
    starts: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(plan.starts):
        for server in servers:
            with running(server) as up:
                starts[server.name].append(up.start_seconds)
    outcome = Outcome()
    with ExitStack() as stack:
        ups = [stack.enter_context(running(server)) for server in servers]
        for up in ups:
            ask(up, question)
        points = load_in_turn(ups, question, options.generator, plan, options.progress)
        for up, found in zip(ups, points, strict=True):
            ask(up, question)
            measurement = Measurement(
                server=up.server,
                points=found,
                start_seconds=statistics.median(starts[up.server.name]),
                worker_rss_mb=up.worker_rss_mb(),
                total_rss_mb=up.total_rss_mb(),
            )
            outcome.measurements[up.server.name] = measurement
            outcome.failures += measurement.failures()
    return outcome
