"""What the jobs routes answer: the shapes that the OpenAPI document shows, and how a job is written as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from serving.jobs.job import Job, JobPage, ModelStats, Status

_ID = "Zk3vQ0m8S1u2bJc9T7xLwA"
_NEVER = "; null until then"


class Failure(BaseModel):
    """Why an attempt failed, in the words of the errors of `/{model}/predict`."""

    code: str = Field(description="stable name for programs", examples=["invalid_image"])
    message: str = Field(description="for people", examples=["the image is truncated or damaged"])


class AcceptedJob(BaseModel):
    """A job that the store has; it will be run, or end as one of the other statuses says."""

    job_id: str = Field(examples=[_ID])
    status: Status = Field(examples=[Status.QUEUED])
    status_url: str = Field(description="where to ask for it; also in `Location`", examples=[f"/jobs/{_ID}"])


class JobSummary(AcceptedJob):
    """A job without its result. Times are in UTC, on the clock of the store."""

    model: str = Field(examples=["iris"])
    attempts: int = Field(description="runs that were started", ge=0, examples=[1])
    max_retries: int = Field(description="runs after the first that it may have", ge=0, examples=[3])
    created_at: datetime
    expires_at: datetime = Field(description="when it expires if it has not begun by then")
    started_at: datetime | None = Field(description=f"of the last attempt{_NEVER}")
    finished_at: datetime | None = Field(description=f"when it ended{_NEVER}")
    next_attempt_at: datetime | None = Field(description="of a queued job that waits after a failed attempt, else null")
    error: Failure | None = Field(description="of a failed job, and of the last attempt of one that waits for another")


class JobDescription(JobSummary):
    """A job. Times are in UTC, on the clock of the store."""

    position: int | None = Field(description="jobs of its model before it while it is queued, else null", examples=[0])
    result: Any = Field(
        description="of a succeeded job: exactly what `/{model}/predict` answers; else null",
        examples=[{"prediction": [[0.97, 0.02, 0.01]]}],
    )


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="`after` of the page that follows; null on the last")


class ModelJobs(BaseModel):
    """One model's jobs that are kept."""

    counts: dict[Status, int] = Field(description="jobs by status", examples=[{"queued": 2, "running": 1}])
    oldest_queued_seconds: float = Field(description="age of the oldest queued job; 0 when none waits", ge=0)
    queued_bytes: int = Field(description="payloads of the queued jobs", ge=0)
    finished_per_second: float = Field(description="succeeded and failed, over the last minute", ge=0)


class JobStats(BaseModel):
    """The jobs that are kept."""

    models: dict[str, ModelJobs] = Field(description="by model, of those that have jobs")


def accepted(job: Job) -> bytes:
    """An AcceptedJob."""
    return msgspec.json.encode(_accepted(job))


def description(job: Job) -> bytes:
    """A JobDescription. The result is embedded as the bytes that the worker has written."""
    result = None if job.result is None else msgspec.Raw(job.result)
    return msgspec.json.encode({**_summary(job), "position": job.position, "result": result})


def page(found: JobPage) -> bytes:
    """A JobList."""
    return msgspec.json.encode({"jobs": [_summary(job) for job in found.jobs], "next": found.next})


def stats(by_model: dict[str, ModelStats]) -> bytes:
    """JobStats."""
    return msgspec.json.encode({"models": dict(sorted(by_model.items()))})


def _accepted(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "status": job.status, "status_url": job_url(job.id)}


def _summary(job: Job) -> dict[str, Any]:
    return {
        **_accepted(job),
        "model": job.model,
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "created_at": _time(job.created_at),
        "expires_at": _time(job.expires_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "next_attempt_at": _time(job.due_at),
        "error": job.error,
    }


def job_url(job_id: str) -> str:
    """Path of a job."""
    return f"/jobs/{job_id}"


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
