"""`python -m benchmarks.batch_program`: one part of the batch benchmark in a process of its own; a line of JSON.

The settings come from the `SERVING__` variables, as for the `serving` command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.models import model_file, stored_model

T = TypeVar("T")
BATCH_ROWS = 65_536
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def peak_mb() -> float:
    """Largest resident memory of this process, in MB (10⁶ bytes)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def write_rows(file: Path, rows: int) -> None:
    """Iris measurements with one decimal, as Parquet; always the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    schema = pa.schema([(name, pa.float32()) for name in COLUMNS])
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, rows, 1_000_000):
            values = generator.uniform(0.1, 8.0, (min(1_000_000, rows - start), 4)).round(1).astype(np.float32)
            writer.write_table(pa.table(list(values.T), schema=schema))


def command(arguments: list[str]) -> dict[str, Any]:
    """`serving …`: what it prints, and the memory that it took."""
    from serving.cli import main

    output = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(output):
        status = main(arguments)
    took = time.perf_counter() - began
    if status:
        raise SystemExit(f"serving {' '.join(arguments)}: {status} {output.getvalue()}")
    return {**json.loads(output.getvalue()), "took": took, "peak_mb": peak_mb()}


def score() -> dict[str, Any]:
    """`serving batch score`, with the seconds of each step: what is not claimed, predicted or written is committed."""
    from serving.batch import scorer

    spent: Counter[str] = Counter()

    def timed(step: str, function: Callable[..., T]) -> Callable[..., T]:
        def call(*arguments: Any, **options: Any) -> T:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[step] += time.perf_counter() - began

        return call

    class Timed:
        def __init__(self, chunks: Any) -> None:
            self.leases = chunks.leases
            self.claim = timed("claim", chunks.claim)
            self.take = chunks.take
            self.write = timed("write", chunks.write)

    chunks_of = scorer.chunks_of
    scorer.chunks_of = lambda *arguments, **options: Timed(chunks_of(*arguments, **options))  # type: ignore[assignment]
    predict = scorer.Scorer.predict
    scorer.Scorer.predict = timed("predict", predict)  # type: ignore[method-assign]
    found = command(["batch", "score"])
    steps = {step: spent[step] for step in ("claim", "predict", "write")}
    return found | steps | {"rest": found["seconds"] - sum(steps.values())}


def one_by_one() -> dict[str, Any]:
    """As the reference does it: all rows are loaded, and each is predicted, written and committed by itself."""
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from serving.batch.database import Database
    from serving.batch.tables import Item, Status
    from serving.placement import open_engine
    from serving.settings import get_settings

    model, settings = stored_model("iris"), get_settings()
    engine = open_engine(model, settings.models["iris"])
    engine.warm_up()
    began = time.perf_counter()
    database = Database(settings.batch.url)
    with Session(database.engine) as session:
        items = session.scalars(select(Item).where(Item.status == Status.UNPREDICTED)).all()
        for item in items:
            outputs = engine.run({model.metadata.inputs[0].name: np.array([item.values], np.float32)})
            probabilities = outputs[model.metadata.scores][0]
            item.prediction = probabilities.tolist()
            item.label = model.metadata.labels[int(probabilities.argmax())]
            item.status = Status.PREDICTED.value
            session.commit()
    return {"rows": len(items), "seconds": time.perf_counter() - began}


@contextmanager
def _processor_time() -> Iterator[list[float]]:
    began = time.thread_time()
    spent = [0.0]
    yield spent
    spent[0] = time.thread_time() - began


def bare_engine(rows: int) -> float:
    """ONNX Runtime alone, one thread, batches of the same size: rows per second of processor time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model_file("iris")), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    output = session.get_outputs()[0].name
    batch = np.random.default_rng(0).uniform(0.1, 8.0, (BATCH_ROWS, 4)).round(1).astype(np.float32)
    session.run([output], {name: batch})
    calls = max(1, rows // BATCH_ROWS)
    with _processor_time() as spent:
        for _ in range(calls):
            session.run([output], {name: batch})
    return calls * BATCH_ROWS / spent[0]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_program", description=__doc__)
    parser.add_argument("part", choices=["command", "score", "one-by-one"])
    given, rest = parser.parse_known_args(arguments)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "command": lambda: command(rest),
        "score": score,
        "one-by-one": one_by_one,
    }
    print(json.dumps(parts[given.part]()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
