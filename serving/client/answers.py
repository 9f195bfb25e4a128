"""Answers of the jobs API as objects: jobs, statistics and errors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from serving.core.errors import ErrorDetail
from serving.jobs.job import JobError, ModelStats, Status


class ClientError(Exception):
    """Base of everything that the client raises because of the server, the network or a job."""


class UnreachableError(ClientError):
    """No answer could be had. What was asked may have happened all the same."""

    retry_after: float | None = None


class LostError(UnreachableError):
    """The connection ended before the answer, as one that was idle and that the server had closed."""


class ApiError(ClientError):
    """The server answered with an error.

    Attributes:
        status: of the answer.
        code: the stable name, as in the table of errors; `http_<status>` when a proxy answered in its own words.
        details: the places that are wrong.
        retry_after: seconds, where trying again may help.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: tuple[ErrorDetail, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.retry_after = retry_after


class WaitTimeoutError(ClientError, TimeoutError):
    """The job had not finished when the time to wait was over. It goes on all the same."""


class JobFailedError(ClientError):
    """The job ended without a result; `job` says how."""

    def __init__(self, job: Job) -> None:
        why = f": {job.error.message} ({job.error.code})" if job.error else ""
        super().__init__(f"job {job.id} {'has ' if job.status is Status.EXPIRED else ''}{_ENDED[job.status]}{why}")
        self.job = job


_ENDED = {Status.FAILED: "failed", Status.EXPIRED: "expired", Status.CANCELLED: "was cancelled"}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server described it; what it did not mention is `None`.

    Attributes:
        attempts: runs that were started.
        next_attempt_at: when a job that waits after a failed attempt may start again.
        position: jobs of the same model before this one, for a queued job.
        result: what `/predict` would have answered, for a succeeded job.
        error: of a failed job, and of the last attempt of a job that waits for another.
    """

    id: str
    status: Status
    model: str | None = None
    attempts: int | None = None
    max_retries: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_attempt_at: datetime | None = None
    position: int | None = None
    error: JobError | None = None
    result: Any = None

    @property
    def finished(self) -> bool:
        return self.status.finished


_TIMES = ("created_at", "expires_at", "started_at", "finished_at", "next_attempt_at")
# What reading an answer of another shape than ours ends in.
_MISSHAPEN = (AttributeError, KeyError, TypeError, ValueError)
_TAGS = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LOOKED_AT = 4_000
_SHOWN = 120
_PLAIN = ("model", "attempts", "max_retries", "position")


def read_json(response: httpx.Response) -> Any:
    """The body of a good answer.

    Raises:
        ApiError: it is an error, or not JSON.
    """
    if not response.is_success:
        raise read_error(response)
    try:
        return response.json()
    except ValueError as error:
        raise _not_understood(response, "it is not JSON") from error


def read_job(response: httpx.Response) -> Job:
    """Raises ApiError, as `read_json`, and when the answer does not describe a job."""
    body = read_json(response)
    try:
        return make_job(body)
    except _MISSHAPEN as error:
        raise _not_understood(response, "it does not describe a job") from error


def read_page(response: httpx.Response) -> tuple[list[Job], str | None]:
    """The jobs of a page, and the cursor of the next one. Raises ApiError, as `read_job`."""
    body = read_json(response)
    try:
        return [make_job(job) for job in body["jobs"]], body["next"]
    except _MISSHAPEN as error:
        raise _not_understood(response, "it is not a list of jobs") from error


def read_stats(response: httpx.Response) -> dict[str, ModelStats]:
    """By model. Raises ApiError, as `read_job`."""
    body = read_json(response)
    try:
        return {name: _make_stats(figures) for name, figures in body["models"].items()}
    except _MISSHAPEN as error:
        raise _not_understood(response, "it is not statistics of jobs") from error


def make_job(body: Mapping[str, Any]) -> Job:
    """From the API's JSON; fields that this client does not know are left out."""
    fields: dict[str, Any] = {name: body.get(name) for name in _PLAIN}
    fields |= {name: datetime.fromisoformat(body[name]) for name in _TIMES if body.get(name) is not None}
    error = body.get("error")
    if error is not None:
        fields["error"] = JobError(error["code"], error["message"])
    return Job(id=body["job_id"], status=Status(body["status"]), result=body.get("result"), **fields)


def as_json(job: Job) -> dict[str, Any]:
    """As the API writes it, without what is `None`; the result, which can be long, comes last."""
    error = job.error and {"code": job.error.code, "message": job.error.message}
    times = {name: moment.isoformat() for name in _TIMES if (moment := getattr(job, name)) is not None}
    plain = {name: getattr(job, name) for name in _PLAIN}
    fields = {"job_id": job.id, "status": job.status.value, **plain, **times, "error": error, "result": job.result}
    return {name: value for name, value in fields.items() if value is not None}


def read_error(response: httpx.Response) -> ApiError:
    """The error in an answer whose status is not 2xx."""
    status, after = response.status_code, _retry_after(response.headers.get("retry-after"))
    try:
        error = response.json()["error"]
        if isinstance(error, str):  # of a standard protocol
            return ApiError(status, f"http_{status}", error, (), after)
        details = tuple(ErrorDetail(str(place["field"]), str(place["message"])) for place in error.get("details", ()))
        return ApiError(status, str(error["code"]), str(error["message"]), details, after)
    except _MISSHAPEN:
        # Something between here and the service answered, in words of its own.
        return ApiError(status, f"http_{status}", f"{_received(response)}{_advice(response)}", (), after)


def _received(response: httpx.Response) -> str:
    """Where an answer came from that is not the service's, and what is in it, shortened."""
    said = f"{response.status_code} {response.reason_phrase}".rstrip()
    text = " ".join(_TAGS.sub(" ", response.text[:_LOOKED_AT]).split())
    kind = response.headers.get("content-type", "").partition(";")[0] or "no content type"
    what = f"{kind}: {text[:_SHOWN]!r}" if text else "an empty body"
    return f"{response.url} answered {said} with {what}"


def _advice(response: httpx.Response) -> str:
    if response.is_redirect:
        return f"; it redirects to {response.headers['location'][:_SHOWN]!r}, and redirects are not followed"
    if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
        return "; a proxy wants a user and a password in its URL, or no_proxy has to name the host"
    return ""


def _make_stats(figures: Mapping[str, Any]) -> ModelStats:
    return ModelStats(
        counts={status: int(figures["counts"].get(status.value, 0)) for status in Status},
        oldest_queued_seconds=float(figures["oldest_queued_seconds"]),
        queued_bytes=int(figures["queued_bytes"]),
        finished_per_second=float(figures["finished_per_second"]),
    )


def _not_understood(response: httpx.Response, why: str) -> ApiError:
    return ApiError(response.status_code, "not_understood", f"the answer is not ours, as {why}: {_received(response)}")


def _retry_after(text: str | None) -> float | None:
    """Seconds from now; the header has seconds or a date. One that is neither says nothing."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
