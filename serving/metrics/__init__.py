"""Prometheus metrics of a server process, summed over all processes of one server.

Names and labels are BentoML's where one means the same thing. `endpoint` is always a route template, so an
unknown path or an id makes no new series.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.core.batcher import Observer
from serving.jobs.metrics import JobMetrics
from serving.metrics.inference import InferenceMetrics, Statistics, Sums, read_sums
from serving.store.models import StoredModel

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DROP_REASONS = ("queue_full", "expired", "cancelled")
_REQUEST = ("endpoint", "service_name", "service_version", "runner_name")


def use_own_directory() -> None:
    """Give the processes of this server a directory that no other server shares.

    BentoML sets one directory for every server of a BENTOML_HOME and empties it whenever one starts, which
    would wipe the counters of a server that is already running. Processes of one server have the same
    parent. A no-op outside `bentoml serve`.
    """
    shared = os.environ.get(DIRECTORY_VARIABLE)
    if shared is None or Path(shared).parent.name == "serving_metrics":
        return
    root = Path(shared).parent / "serving_metrics"
    own = root / _process_name(psutil.Process(os.getppid()))
    own.mkdir(parents=True, exist_ok=True)
    alive = {_process_name(process) for process in psutil.process_iter()}
    for directory in root.iterdir():
        if directory.name not in alive:
            shutil.rmtree(directory, ignore_errors=True)
    os.environ[DIRECTORY_VARIABLE] = str(own)
    # These processes do not fork, so the id is looked up once and not at each of five changes per request.
    pid = os.getpid()
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: pid)  # type: ignore[no-untyped-call]


def _process_name(process: psutil.Process) -> str:
    return f"{process.pid}-{process.create_time():.2f}"


class BatchMetrics(Observer):
    """What a `serving.core.batcher.MicroBatcher` tells, as metrics."""

    def __init__(self, *, sizes: Histogram, waits: Histogram, depth: Gauge, rejected: Mapping[str, Counter]) -> None:
        self._sizes = sizes
        self._waits = waits
        self._depth = depth
        self._rejected = rejected

    def batch(self, rows: int) -> None:
        self._sizes.observe(rows)

    def waited(self, seconds: float) -> None:
        self._waits.observe(seconds)

    def depth(self, rows: int) -> None:
        self._depth.set(rows)

    def dropped(self, reason: str) -> None:
        self._rejected[reason].inc()


class Metrics:
    """The metrics of one process. `runner_name` tells the API from the runners, as BentoML's label does."""

    def __init__(
        self,
        *,
        service_name: str,
        service_version: str,
        runner_name: str,
        duration_buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._registry = registry
        self._service = (service_name, service_version, runner_name)
        namespace = "bentoml_service"
        self._requests = Counter(
            "request_total",
            "Requests answered.",
            (*_REQUEST, "http_response_code"),
            namespace=namespace,
            registry=registry,
        )
        self._durations = Histogram(
            "request_duration_seconds",
            "From the first byte of a request's head to the last of its answer.",
            (*_REQUEST, "http_response_code"),
            namespace=namespace,
            registry=registry,
            buckets=duration_buckets,
        )
        self._in_progress = Gauge(
            "request_in_progress",
            "Requests being answered.",
            _REQUEST,
            namespace=namespace,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._batch_sizes = Histogram(
            "adaptive_batch_size",
            "Rows in one engine call of an adaptive batch.",
            ("service_name", "service_version", "runner_name", "method_name"),
            namespace=namespace,
            registry=registry,
            buckets=_BATCH_BUCKETS,
        )
        self._queue_depth = Gauge(
            "serving_queue_depth",
            "Rows that wait in the runners of a model.",
            ("model",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._queue_wait = Histogram(
            "serving_queue_wait_seconds",
            "How long a request waited in a runner before the engine took it.",
            ("model",),
            registry=registry,
            buckets=duration_buckets,
        )
        self._rejected = Counter(
            "serving_rejected_total",
            "Requests turned away or dropped before prediction.",
            ("model", "reason"),
            registry=registry,
        )
        self._model_info = Gauge(
            "serving_model_info",
            "1 for each model that is served.",
            ("model", "tag", "weights", "trained"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.jobs = JobMetrics(duration_buckets=duration_buckets, registry=registry)
        self._inference = InferenceMetrics(registry=registry)
        self._statistics: dict[str, Statistics] = {}
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def in_progress(self, endpoint: str) -> Gauge:
        """Gauge of a route; keep it, looking it up costs more than changing it."""
        return self._in_progress.labels(endpoint, *self._service)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer and its duration."""
        pair = self._answered.get((endpoint, status))
        if pair is None:
            labels = (endpoint, *self._service, str(status))
            pair = (self._requests.labels(*labels), self._durations.labels(*labels))
            self._answered[endpoint, status] = pair
        pair[0].inc()
        pair[1].observe(seconds)

    def batches(self, model: str) -> BatchMetrics:
        """Observer of a model's batcher."""
        return BatchMetrics(
            sizes=self._batch_sizes.labels(*self._service, "predict_batched"),
            waits=self._queue_wait.labels(model),
            depth=self._queue_depth.labels(model),
            rejected={reason: self.rejected(model, reason) for reason in DROP_REASONS},
        )

    def rejected(self, model: str, reason: str) -> Counter:
        return self._rejected.labels(model, reason)

    def serves(self, name: str, model: StoredModel) -> None:
        weights = model.metadata.weights
        origin, trained = (weights.origin, str(weights.trained).lower()) if weights else ("", "")
        self._model_info.labels(name, model.tag, origin, trained).set(1)

    def statistics(self, model: str) -> Statistics:
        """Where predictions of a model for the standard protocols are counted in this process."""
        if model not in self._statistics:
            self._statistics[model] = Statistics(model, self._inference)
        return self._statistics[model]

    def inference_sums(self, model: str) -> Sums:
        """What they come to in all processes, give or take the last moment; reads files, so call it in a thread."""
        return read_sums(model, self._collected().collect())

    def render(self) -> tuple[bytes, str]:
        """The exposition text of all processes of this server, and its content type.

        Under `bentoml serve` the gauges of killed processes are dropped first: nobody else does, and a
        request that died with its worker would stay in progress for ever.
        """
        return generate_latest(self._collected()), CONTENT_TYPE_LATEST

    def _collected(self) -> CollectorRegistry:
        """The metrics of all processes of this server."""
        directory = os.environ.get(DIRECTORY_VARIABLE)
        if directory is None:
            return self._registry
        for pid in {int(file.stem.rpartition("_")[2]) for file in Path(directory).glob("gauge_live*_*.db")}:
            if not psutil.pid_exists(pid):
                mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        return registry
