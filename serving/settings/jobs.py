"""Settings of the asynchronous jobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serving.settings.section import Section


class JobsSettings(Section):
    enabled: bool = Field(True, description="Offer the jobs routes.")
    url: str = Field(
        "sqlite:///jobs.db",
        repr=False,
        description="Where jobs are kept: `sqlite:///file.db` (one host, no server), or `redis://`, `rediss://`, "
        "`unix://`, `redis+sentinel://`. It may hold a password, so set it in the environment.",
    )
    namespace: str = Field(
        "serving",
        pattern="^([A-Za-z0-9_.-]+:)*[A-Za-z0-9_.-]+$",
        max_length=64,
        description="Every key in Redis begins with it, as `{serving}:jobs:`; services that share one Redis need "
        "different ones. `team:serving` makes `team:{serving}:jobs:`.",
    )
    min_replicas: int = Field(
        0,
        ge=0,
        description="Replicas of Redis that must know of a job, and of its end, before anybody is told; with too few "
        "the answer is 503.",
    )
    embedded_worker: bool | None = Field(
        None, description="Run a worker process beside the API; empty means yes for SQLite and no for Redis."
    )
    lease_seconds: float = Field(
        15.0, ge=0.5, description="A job whose worker gives no sign of life for this long goes to another worker."
    )
    job_timeout_seconds: float = Field(
        60.0, gt=0, description="Most time for one attempt; then its worker process is ended and replaced."
    )
    backoff_seconds: list[Annotated[float, Field(ge=0)]] = Field(
        [2.0, 8.0, 30.0], min_length=1, description="Pauses before the attempts after the first; the last one repeats."
    )
    most_retries: int = Field(10, ge=0, description="Largest `max_retries` that a request may ask for.")
    longest_ttl_seconds: float = Field(86_400.0, gt=0, description="Largest `ttl_seconds` that a request may ask for.")
    max_payload_bytes: int = Field(1_048_576, ge=1024, description="A larger job is refused with 413.")
    max_queue_jobs: int = Field(10_000, ge=1, description="Most jobs of a model that are queued; beyond it, 429.")
    max_queue_bytes: int = Field(
        268_435_456, ge=1024, description="Most bytes of payloads of a model that are queued; beyond it, 429."
    )
    result_retention_seconds: float = Field(
        3600.0, gt=0, description="How long a succeeded or cancelled job can be asked for."
    )
    failure_retention_seconds: float = Field(
        604_800.0, gt=0, description="How long a failed or expired job keeps its error and its input."
    )
    worker_port: int = Field(
        9100, ge=0, le=65_535, description="Port of `/readyz` and `/metrics` of `serving worker`; 0 takes a free one."
    )

    @property
    def has_embedded_worker(self) -> bool:
        """Whether `bentoml serve` runs a worker."""
        embedded = self.url.startswith("sqlite:") if self.embedded_worker is None else self.embedded_worker
        return self.enabled and embedded
