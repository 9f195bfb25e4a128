"""Metrics of what the standard protocols ask of each model, and the sums that their statistics routes answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric

_PREFIX = "serving_inference"
_FLUSH_SECONDS = 0.2


@dataclass(slots=True)
class BatchSums:
    """Of the requests with one number of rows that were answered."""

    count: int = 0
    input_seconds: float = 0.0
    infer_seconds: float = 0.0


@dataclass(slots=True)
class Sums:
    """Since the server started, over all its processes. Durations are in seconds."""

    successes: int = 0
    failures: int = 0
    success_seconds: float = 0.0
    failure_seconds: float = 0.0
    input_seconds: float = 0.0
    """Decoding of images."""
    infer_seconds: float = 0.0
    """In the engine, with the way to it and the wait for it."""
    rows: int = 0
    executions: int = 0
    """Calls of the engine, or of the runner that batches them further."""
    last: float = 0.0
    """When the last request was answered, as seconds since 1970."""
    batches: dict[int, BatchSums] = field(default_factory=dict)
    """By the number of rows, as `size_of_batch` groups them."""


_PARTS = ("success", "failure", "input", "infer")
_EXACT_ROWS = 64


def size_of_batch(rows: int) -> int:
    """The size that a request with `rows` rows is counted under: above 64 the next power of two.

    So callers cannot make more than some eighty series of metrics for a model.
    """
    return rows if rows <= _EXACT_ROWS else 1 << (rows - 1).bit_length()


class InferenceMetrics:
    """The metrics of one process, summed by Prometheus' client like all others."""

    def __init__(self, *, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            f"{_PREFIX}_requests",
            "Predictions asked for by the standard protocols, by outcome.",
            ("model", "outcome"),
            registry=registry,
        )
        self._seconds = Counter(
            f"{_PREFIX}_seconds",
            "Time spent on them: in all by outcome, and of that decoding input and in the engine.",
            ("model", "part"),
            registry=registry,
        )
        self._rows = Counter(f"{_PREFIX}_rows", "Rows and images predicted for them.", ("model",), registry=registry)
        self._executions = Counter(
            f"{_PREFIX}_executions", "Calls of the engine or runner for them.", ("model",), registry=registry
        )
        self._batches = Counter(
            f"{_PREFIX}_batches",
            "Predictions answered, by their number of rows; above 64 by the next power of two.",
            ("model", "rows"),
            registry=registry,
        )
        self._batch_seconds = Counter(
            f"{_PREFIX}_batch_seconds",
            "Time spent on them: decoding input and in the engine.",
            ("model", "rows", "part"),
            registry=registry,
        )
        self._last = Gauge(
            f"{_PREFIX}_last_timestamp_seconds",
            "When the last of them was answered.",
            ("model",),
            registry=registry,
            multiprocess_mode="max",
        )

    def add(self, model: str, sums: Sums) -> None:
        """Add what has happened since the last call."""
        self._requests.labels(model, "success").inc(sums.successes)
        self._requests.labels(model, "failure").inc(sums.failures)
        parts = (sums.success_seconds, sums.failure_seconds, sums.input_seconds, sums.infer_seconds)
        for part, seconds in zip(_PARTS, parts, strict=True):
            self._seconds.labels(model, part).inc(seconds)
        self._rows.labels(model).inc(sums.rows)
        self._executions.labels(model).inc(sums.executions)
        for rows, batch in sums.batches.items():
            self._batches.labels(model, rows).inc(batch.count)
            self._batch_seconds.labels(model, rows, "input").inc(batch.input_seconds)
            self._batch_seconds.labels(model, rows, "infer").inc(batch.infer_seconds)
        last = self._last.labels(model)
        if sums.last:
            last.set(sums.last)


def read_sums(model: str, families: Iterable[Metric]) -> Sums:
    """The sums of one model from the collected metrics of all processes."""
    sums = Sums()
    for family in families:
        if family.name.startswith(_PREFIX):
            for sample in family.samples:
                if sample.labels.get("model") == model:
                    _note(sums, sample.name.removeprefix(f"{_PREFIX}_"), sample.labels, sample.value)
    return sums


def _note(sums: Sums, name: str, labels: dict[str, str], value: float) -> None:
    if name == "requests_total":
        if labels["outcome"] == "success":
            sums.successes = int(value)
        else:
            sums.failures = int(value)
    elif name == "seconds_total":
        setattr(sums, f"{labels['part']}_seconds", value)
    elif name == "rows_total":
        sums.rows = int(value)
    elif name == "executions_total":
        sums.executions = int(value)
    elif name == "batches_total":
        sums.batches.setdefault(int(labels["rows"]), BatchSums()).count = int(value)
    elif name == "batch_seconds_total":
        setattr(sums.batches.setdefault(int(labels["rows"]), BatchSums()), f"{labels['part']}_seconds", value)
    elif name == "last_timestamp_seconds":
        sums.last = value


class Statistics:
    """Counts for one model in this process; the metrics have it a moment later.

    A metric that is changed costs about a microsecond and there are many for each request, of which a small one
    takes some forty in all.
    """

    def __init__(self, model: str, metrics: InferenceMetrics) -> None:
        self._model = model
        self._metrics = metrics
        self._sums = Sums()
        self._flush_planned = False
        # From the start there are series, of zero.
        metrics.add(model, self._sums)

    def succeeded(self, *, rows: int, seconds: float, infer_seconds: float, input_seconds: float = 0.0) -> None:
        sums = self._sums
        sums.successes += 1
        sums.executions += 1
        sums.rows += rows
        sums.success_seconds += seconds
        sums.infer_seconds += infer_seconds
        sums.input_seconds += input_seconds
        size = size_of_batch(rows)
        batch = sums.batches.get(size)
        if batch is None:
            batch = sums.batches[size] = BatchSums()
        batch.count += 1
        batch.input_seconds += input_seconds
        batch.infer_seconds += infer_seconds
        self._answered()

    def failed(self, *, seconds: float) -> None:
        self._sums.failures += 1
        self._sums.failure_seconds += seconds
        self._answered()

    def flush(self) -> None:
        """Tell the metrics now."""
        self._flush_planned = False
        sums, self._sums = self._sums, Sums()
        self._metrics.add(self._model, sums)

    def _answered(self) -> None:
        self._sums.last = time.time()
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
