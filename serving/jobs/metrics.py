"""Prometheus metrics of jobs: what workers did, and what waits in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.jobs.job import ModelStats, Status

OUTCOMES = ("succeeded", "failed", "lost", "released")
_ENDS = (Status.SUCCEEDED, Status.FAILED)
# A job may wait for as long as its time to live, five minutes unless it says otherwise.
_WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class JobMetrics:
    """Metrics of all models; workers count what they did, and whoever asks the store tells what waits there."""

    def __init__(self, *, duration_buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._finished = Counter(
            "serving_jobs_finished_total",
            "Jobs that a worker has brought to an end.",
            ("model", "status"),
            registry=registry,
        )
        self._attempts = Counter(
            "serving_job_attempts_total",
            "Attempts that a worker has ended: `lost` without a lease any more, `released` unstarted.",
            ("model", "outcome"),
            registry=registry,
        )
        self._durations = Histogram(
            "serving_job_duration_seconds",
            "How long the engine call took that a job was in.",
            ("model",),
            registry=registry,
            buckets=duration_buckets,
        )
        self._waits = Histogram(
            "serving_job_wait_seconds",
            "From the submission of a job to the start of its first attempt.",
            ("model",),
            registry=registry,
            buckets=_WAIT_BUCKETS,
        )
        # Every process that asks the same store tells the same, so the latest answer counts and nothing is summed.
        self._jobs = Gauge(
            "serving_jobs",
            "Jobs that the store keeps.",
            ("model", "status"),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._oldest = Gauge(
            "serving_jobs_oldest_queued_seconds",
            "Age of the oldest job that is queued, 0 when none is.",
            ("model",),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )

    def serves(self, models: Iterable[str]) -> None:
        """Make the series of `models`, so that they are there, as zeros, before the first job."""
        for model in models:
            self._durations.labels(model)
            self._waits.labels(model)
            for status in _ENDS:
                self._finished.labels(model, status.value)
            for outcome in OUTCOMES:
                self._attempts.labels(model, outcome)

    def started(self, model: str, *, waited_seconds: float) -> None:
        """The first attempt of a job begins."""
        self._waits.labels(model).observe(waited_seconds)

    def ran(self, model: str, seconds: float) -> None:
        """The engine call that a job was in is over."""
        self._durations.labels(model).observe(seconds)

    def attempt(self, model: str, outcome: str) -> None:
        """An attempt is over; `outcome` is one of OUTCOMES."""
        self._attempts.labels(model, outcome).inc()

    def finished(self, model: str, status: Status) -> None:
        self._finished.labels(model, status.value).inc()

    def stored(self, stats: Mapping[str, ModelStats], models: Iterable[str]) -> None:
        """What the store says, and zeros for those of `models` of which it has nothing."""
        for model in {*stats, *models}:
            found = stats.get(model, ModelStats())
            for status, count in found.counts.items():
                self._jobs.labels(model, status.value).set(count)
            self._oldest.labels(model).set(found.oldest_queued_seconds)
