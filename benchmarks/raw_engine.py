"""`python -m benchmarks.raw_engine MODEL`: what ONNX Runtime alone does with an image model, as a line of JSON.

A process of its own, so that nothing but the engine runs on its threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import percentile
from benchmarks.server import ROOT, ServerError

SIDE = 299


@dataclass(frozen=True, slots=True)
class EngineResult:
    """Calls one after the other: images per second, milliseconds per call."""

    images_per_second: float
    p50_ms: float
    p99_ms: float


def measure_engine(model: Path, *, threads: int, batch: int, seconds: float) -> EngineResult:
    """Measure in another process for about `seconds`, warm-up apart.

    Raises:
        ServerError: the process failed.
    """
    command = [sys.executable, "-m", "benchmarks.raw_engine", str(model)]
    command += ["--threads", str(threads), "--batch", str(batch), "--seconds", str(seconds)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 120, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"the raw engine was still running after {error.timeout:.0f} s") from error
    if done.returncode != 0:
        raise ServerError(f"the raw engine ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return EngineResult(**json.loads(done.stdout))


def measure_round(
    model: Path, threads: int, batches: Iterable[int], seconds: float, progress: Callable[[str], None]
) -> dict[int, EngineResult]:
    """Results by batch size, each measured for `seconds`.

    Raises:
        ServerError: as `measure_engine`.
    """
    results = {}
    for batch in batches:
        results[batch] = measure_engine(model, threads=threads, batch=batch, seconds=seconds)
        progress(f"raw engine, batch {batch}: {results[batch].images_per_second:.1f} images/s")
    return results


def median_round(rounds: Sequence[Mapping[int, EngineResult]]) -> dict[int, EngineResult]:
    """The medians of rounds that measured the same batch sizes."""
    return {
        batch: EngineResult(
            images_per_second=statistics.median(results[batch].images_per_second for results in rounds),
            p50_ms=statistics.median(results[batch].p50_ms for results in rounds),
            p99_ms=statistics.median(results[batch].p99_ms for results in rounds),
        )
        for batch in rounds[0]
    }


def run_engine(model: Path, *, threads: int, batch: int, seconds: float) -> EngineResult:
    """Call the session on uint8 `[batch, 299, 299, 3]` for `seconds`, after two calls to warm up."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
    feed = {session.get_inputs()[0].name: images}
    for _ in range(2):
        session.run(None, feed)
    latencies = []
    began = time.perf_counter()
    while (before := time.perf_counter()) < began + seconds:
        session.run(None, feed)
        latencies.append((time.perf_counter() - before) * 1e3)
    elapsed = time.perf_counter() - began
    ordered = sorted(latencies)
    return EngineResult(batch * len(ordered) / elapsed, percentile(ordered, 0.5), percentile(ordered, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.raw_engine", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    result = run_engine(given.model, threads=given.threads, batch=given.batch, seconds=given.seconds)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
