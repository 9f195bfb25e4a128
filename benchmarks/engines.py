"""`python -m benchmarks.engines` (`make bench-engines`): the engines of InceptionV3 side by side, nothing served.

How fast they are on the same threads, and how far their answers are from ONNX Runtime's in float32. Takes about
ten minutes. Ends with 0 whether targets were met or not, and with 1 when an engine failed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_program import ENGINES, TAG
from benchmarks.machine import describe
from benchmarks.results import Section, write_section
from benchmarks.server import ROOT
from benchmarks.table import NOTHING, Table, figure, ratio
from benchmarks.targets import Target, at_least, targets_table
from serving.store.models import open_model
from train.inception_v3 import TOLERANCE

NAME = "engines"
TITLE = "engines: InceptionV3 on the CPU, arrays in, arrays out"
OPENVINO_PYTHON = ROOT / ".build" / "openvino-venv" / "bin" / "python"
TITLES = {
    "tensorflow": "TensorFlow SavedModel, float32",
    "onnxruntime": "ONNX Runtime, float32",
    "openvino-float32": "OpenVINO, float32",
    "openvino-bfloat16": "OpenVINO, bfloat16",
}
BASE, FAST = "onnxruntime", "openvino-bfloat16"
SETUPS = ((1, 1), (2, 1), (2, 8))
"""Threads and images per call."""
NOISE = "onnxruntime-noise"
"""ONNX Runtime again on images that are off by up to one grey level: what a difference is to be compared with."""
TIE = 2 * TOLERANCE
"""Float32 margins up to here are ties: engines that are both right may choose differently."""
MARGINS = (0.0, TIE, 0.01, 0.05, 0.1, 0.2, 0.5)

Speeds = dict[str, dict[tuple[int, int], float]]
Answers = dict[str, NDArray[np.float32]]


class EngineError(Exception):
    """An engine's process failed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Answers against the reference: share of equal labels and number of images, by least float32 margin."""

    shares: dict[float, tuple[float, int]]
    largest: float
    median: float
    """Of each image's largest difference of a probability."""


def agreement(answers: NDArray[np.float32], reference: NDArray[np.float32]) -> Agreement:
    """Compare probabilities `[N, classes]`."""
    ranked = np.sort(reference, axis=1)
    margins = ranked[:, -1] - ranked[:, -2]
    equal = answers.argmax(axis=1) == reference.argmax(axis=1)
    differences = np.abs(answers - reference).max(axis=1)
    shares = {}
    for margin in MARGINS:
        chosen = margins > margin if margin else np.ones(len(margins), bool)
        shares[margin] = (float(equal[chosen].mean()) if chosen.any() else float("nan"), int(chosen.sum()))
    return Agreement(shares, float(differences.max()), float(np.median(differences)))


def _run(engine: str, *arguments: str) -> str:
    python = OPENVINO_PYTHON if engine.startswith("openvino") else Path(sys.executable)
    command = [str(python), "-m", "benchmarks.engine_program", engine, *arguments]
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{TITLES[engine]}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise EngineError(f"{TITLES[engine]} ended with {done.returncode}: {lines[-1]}")
    return done.stdout


def measure_speeds(engines: Sequence[str], *, rounds: int, seconds: float) -> Speeds:
    """Medians in images per second. Rounds go round the engines, so that a drift of the machine meets them all."""
    seen: dict[str, dict[tuple[int, int], list[float]]] = {name: {setup: [] for setup in SETUPS} for name in engines}
    for _ in range(rounds):
        for threads, batch in SETUPS:
            for name in engines:
                output = _run(name, f"--threads={threads}", f"--batch={batch}", f"--seconds={seconds:g}")
                rate = json.loads(output.splitlines()[-1])["images_per_second"]
                seen[name][threads, batch].append(rate)
                _progress(f"{TITLES[name]}, threads {threads}, batch {batch}: {rate:.1f} images/s")
    return {name: {setup: statistics.median(rates) for setup, rates in found.items()} for name, found in seen.items()}


def collect_answers(engines: Sequence[str], *, images: int, threads: int) -> Answers:
    """Probabilities of the same seeded images from every engine, and from ONNX Runtime on slightly noisy ones."""
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in (*engines, NOISE):
            _progress(f"{images} answers: {name}")
            file = Path(directory) / f"{name}.npy"
            options = [f"--threads={threads}", f"--images={images}", f"--answers={file}"]
            _run(BASE, *options, "--noise") if name == NOISE else _run(name, *options)
            found[name] = np.load(file)
    return found


def speed_table(speeds: Speeds) -> Table:
    rows = []
    for name, found in speeds.items():
        cells = [TITLES[name]]
        for setup in SETUPS:
            bases = [speeds[base][setup] for base in ("tensorflow", BASE) if base in speeds]
            cells += [figure(found[setup], 1), *(ratio(found[setup], base) for base in bases)]
        rows.append(cells)
    columns = ["engine"]
    for threads, batch in SETUPS:
        columns.append(f"threads {threads}, batch {batch}: images/s")
        columns += [f"× {short}" for name, short in (("tensorflow", "TensorFlow"), (BASE, "ORT")) if name in speeds]
    return Table("Speed", columns, rows)


def agreement_table(agreements: dict[str, Agreement]) -> Table:
    counts = next(iter(agreements.values())).shares
    columns = ["against ONNX Runtime, float32", "largest difference of a probability", "median of the images' largest"]
    columns += [
        f"same label, {f'margin > {margin:g}' if margin else 'all'} ({counts[margin][1]})" for margin in MARGINS
    ]
    titles = {**TITLES, NOISE: "ONNX Runtime, float32, pixels off by up to 1 of 255"}
    rows = [
        [
            *(titles[name], f"{found.largest:.2g}", f"{found.median:.2g}"),
            *(NOTHING if np.isnan(share) else f"{share:.1%}" for share, _ in found.shares.values()),
        ]
        for name, found in agreements.items()
    ]
    notes = [
        "margin: float32 probability of the best class less that of the second; in parentheses, the images that have it"
    ]
    return Table("Agreement", columns, rows, notes)


def targets(speeds: Speeds, agreements: dict[str, Agreement]) -> list[Target]:
    fast, base = speeds.get(FAST, {}), speeds[BASE]
    found = [
        at_least(
            f"OpenVINO bfloat16 against ONNX Runtime, threads {threads}, batch {batch}",
            1.9,
            fast.get((threads, batch)),
            base[threads, batch],
            ("OpenVINO", "ONNX Runtime"),
        )
        for threads, batch in SETUPS
    ]
    share, count = agreements[FAST].shares[TIE] if FAST in agreements else (None, 0)
    what = f"bfloat16 gives float32's label where its margin is no tie (> {TIE:g})"
    evidence = f"{count} images" if count else ""
    return [*found, Target(what, 0.99, share, at_least=True, evidence=evidence)]


def run(*, rounds: int, seconds: float, images: int) -> Section:
    model = open_model(TAG)
    engines, failures = [], []
    for name in ENGINES:
        try:
            _run(name, "--threads=1", "--seconds=0.1")
            engines.append(name)
        except EngineError as error:
            failures.append(str(error))
            _progress(f"FAILED {error}")
    if BASE not in engines:
        return Section(NAME, TITLE, [], failures=failures)
    speeds = measure_speeds(engines, rounds=rounds, seconds=seconds)
    answers = collect_answers(engines, images=images, threads=min(2, os.cpu_count() or 1))
    reference = answers.pop(BASE)
    agreements = {name: agreement(found, reference) for name, found in answers.items()}
    notes = [
        f"model: {model.tag}, weights: {model.metadata.weights.origin}; the SavedModel is of the same weights, from "
        "the decoded pixels on",
        f"speed: each in a process of its own, {rounds} rounds of {seconds:g} s per setup; "
        "TensorFlow with that many intra-op threads and one inter-op thread, OpenVINO with one stream",
        f"agreement: {images} images from a seed; the last row is float32 against itself on pixels that are off by a "
        "random −1, 0 or 1, which nobody sees",
    ]
    if not model.metadata.weights.trained:
        notes.append("**the weights are not trained**: such a network amplifies any disturbance; the last row shows it")
    tables = [speed_table(speeds), agreement_table(agreements), targets_table(targets(speeds, agreements))]
    return Section(NAME, TITLE, tables, notes, failures)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take the median of (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (8)")
    parser.add_argument("--images", type=int, default=500, help="for the agreement (500)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="results file (benchmarks/RESULTS.md)")
    given = parser.parse_args(arguments)
    shown = " ".join(["python -m benchmarks.engines", *(sys.argv[1:] if arguments is None else arguments)])
    circumstances = describe(shown, "none", {"openvino-venv": OPENVINO_PYTHON.parents[1]})
    try:
        section = run(rounds=given.rounds, seconds=given.seconds, images=given.images)
    except EngineError as error:
        _progress(f"error: {error}")
        return 1
    print(section.markdown(circumstances))
    if not section.failures or given.output:
        write_section(given.output or ROOT / "benchmarks" / "RESULTS.md", section, circumstances)
    return 1 if section.failures else 0


if __name__ == "__main__":
    sys.exit(main())
