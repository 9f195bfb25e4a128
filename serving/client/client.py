"""The client: what can be asked about jobs, as methods."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from serving.client.answers import (
    ApiError,
    ClientError,
    Job,
    JobFailedError,
    UnreachableError,
    WaitTimeoutError,
    read_job,
    read_page,
    read_stats,
)
from serving.client.inputs import (
    IMAGE_TYPE,
    JSON_TYPE,
    Image,
    Rows,
    Tensors,
    read_image,
    rows_body,
    tensors_body,
    to_json,
)
from serving.client.tls import File, Tls
from serving.client.transport import BUSY, Answer, Deadline, Transport
from serving.jobs.job import ModelStats, Status

LONGEST_POLL_SECONDS = 30.0
"""What the server allows for `wait`."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_LARGEST_PAGE = 200
# A server that is stopping, or a proxy, may answer a long poll at once; that must not become a busy loop.
_LEAST_POLL_SECONDS = 0.25


class Client:
    """Submits jobs and gets their results. May be shared by threads; `close` it, or use it in a `with` block.

    Forked processes may share it as well: each has its own connections.

    Args:
        base_url: such as `http://127.0.0.1:3000`, with a path when the service stands below one; or
            `unix:/path/of/socket`.
        timeout: seconds for which a call is repeated while the server cannot be reached or answers 429, 502, 503
            or 504. `Retry-After` is obeyed; a call whose next try would come later than that gives up at once.
        headers: sent with every request.
        on_retry: called with the error before a request is repeated, for a display or a log.
        tls_ca: PEM file of the authorities that are trusted in the place of the usual ones.
        tls_cert, tls_key: PEM files of the client's certificate and its key, where the server asks for one.

    Besides what each method says, they all raise UnreachableError when no answer could be had within the time, and
    ApiError when the answer is an error.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        on_retry: Callable[[ClientError], None] | None = None,
        tls_ca: File | None = None,
        tls_cert: File | None = None,
        tls_key: File | None = None,
    ) -> None:
        self.timeout = timeout
        tls = Tls(tls_ca, tls_cert, tls_key)
        self._transport = Transport(base_url, tls=tls, headers=headers, on_retry=on_retry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections."""
        self._transport.close()

    def submit(
        self,
        model: str,
        *,
        rows: Rows | None = None,
        image: Image | None = None,
        tensors: Tensors | None = None,
        top_k: int | None = None,
        idempotency_key: str | None = None,
        max_retries: int | None = None,
        ttl_seconds: float | None = None,
    ) -> Job:
        """Hand in a job; when this returns the server's store has it.

        The request carries an idempotency key, a new random one unless given: when an answer is lost and the request
        repeated, there is one job all the same.

        Args:
            rows: lists of values, records by column name, a NumPy array `[N, columns]` or a DataFrame, for a model of
                rows; `None` and, in arrays and DataFrames, NaN are missing values.
            image: an image file as bytes, path or open binary file, or an image of Pillow, for a model of images.
            tensors: arrays or nested lists by the name of the input, for a model of tensors.
            top_k: how many classes to name, for an image.
            idempotency_key: 1 to 255 visible ASCII characters.
            max_retries: attempts after the first.
            ttl_seconds: from now; a job that has not begun by then expires.

        Raises:
            ValueError: not exactly one of `rows`, `image` and `tensors`, `top_k` without an image, or a bad key.
            OSError: `image` is a file that cannot be read.
        """
        if [rows is None, image is None, tensors is None].count(False) != 1:
            raise ValueError("one of rows, image and tensors is required")
        if top_k is not None and image is None:
            raise ValueError("top_k is for images")
        key = secrets.token_urlsafe(16) if idempotency_key is None else idempotency_key
        if not _KEY.fullmatch(key):
            raise ValueError("idempotency_key: 1 to 255 visible ASCII characters are required")
        options = {"top_k": top_k, "max_retries": max_retries, "ttl_seconds": ttl_seconds}
        if image is not None:
            content, content_type = read_image(image), IMAGE_TYPE
        else:
            content, content_type = to_json(rows_body(rows) if tensors is None else tensors_body(tensors)), JSON_TYPE
        answer = self._request(
            "POST",
            f"{quote(model, safe='')}/jobs",
            params={name: value for name, value in options.items() if value is not None},
            headers={"Idempotency-Key": key, "Content-Type": content_type},
            content=content,
        )
        job = read_job(answer.response)
        return job if job.model else replace(job, model=model)

    def get(self, job_id: str) -> Job:
        """The job as it is now. ApiError has status 404 when it is not known, or not any more."""
        return self._get(job_id, 0.0, Deadline.after(self.timeout))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job when it has finished, however it has ended.

        Outages of the server are ridden out: only the end of `timeout` (seconds; `None` waits for ever) ends it.

        Raises:
            WaitTimeoutError: a TimeoutError; the job had not finished by then, or no answer could have come in time.
        """
        *_, job = self.watch([job_id], timeout=timeout)
        return job

    def result(self, job_id: str, timeout: float | None = None) -> Any:
        """What `/predict` would have answered, once the job has succeeded.

        Raises:
            JobFailedError: it failed, expired or was cancelled.
            WaitTimeoutError: as `wait`.
        """
        job = self.wait(job_id, timeout)
        if job.status is not Status.SUCCEEDED:
            raise JobFailedError(job)
        return job.result

    def watch(self, job_ids: Sequence[str], *, timeout: float | None = None, interval: float = 20.0) -> Iterator[Job]:
        """Every answer about these jobs, until each has finished: the last one about a job is of its end.

        Long polls for the first that is unfinished, as jobs of a model run in their order, and asks for the others
        every `interval` seconds (at most 30).

        Raises:
            WaitTimeoutError: as `wait`.
        """
        if not 0 < interval <= LONGEST_POLL_SECONDS:
            raise ValueError(f"interval: more than 0 and at most {LONGEST_POLL_SECONDS:g} seconds are required")
        deadline = Deadline.after(timeout)
        pending = list(dict.fromkeys(job_ids))
        asked_all = time.monotonic()
        try:
            while pending:
                began = time.monotonic()
                left = deadline.left()
                job = self._get(pending[0], min(interval, left), deadline)
                yield job
                if job.finished:
                    del pending[0]
                elif not left:
                    raise WaitTimeoutError(f"not finished within {timeout:g} s: {', '.join(pending)}")
                elif time.monotonic() - began < min(interval, left) / 2:
                    time.sleep(min(_LEAST_POLL_SECONDS, left))
                if time.monotonic() - asked_all >= interval:
                    for job_id in pending[1:]:
                        job = self._get(job_id, 0.0, deadline)
                        yield job
                        if job.finished:
                            pending.remove(job_id)
                    asked_all = time.monotonic()
        except (UnreachableError, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in BUSY:
                raise
            raise WaitTimeoutError(f"no answer within {timeout:g} s: {error}") from error

    def cancel(self, job_id: str) -> Job:
        """End a queued or running job. ApiError has status 409 when it had finished."""
        answer = self._request("DELETE", _job_path(job_id))
        return self._unless_done(answer, job_id, lambda job: job.status is Status.CANCELLED)

    def retry(self, job_id: str) -> Job:
        """Queue a failed or expired job anew. ApiError has status 409 when it has not failed or expired."""
        answer = self._request("POST", f"{_job_path(job_id)}/retry")
        ended_badly = (Status.FAILED, Status.EXPIRED)
        return self._unless_done(answer, job_id, lambda job: job.status not in ended_badly)

    def jobs(
        self, *, status: Status | str | None = None, model: str | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """Jobs, newest first, at most `limit`; pages are fetched as they are needed. They come without results."""
        params: dict[str, str] = {}
        if status is not None:
            params["status"] = Status(status).value
        if model is not None:
            params["model"] = model
        left = limit
        while left is None or left > 0:
            params["limit"] = str(min(left or _LARGEST_PAGE, _LARGEST_PAGE))
            page, following = read_page(self._request("GET", "jobs", params=params).response)
            yield from page if left is None else page[:left]
            if following is None:
                return
            left = None if left is None else left - len(page)
            params["after"] = following

    def stats(self) -> dict[str, ModelStats]:
        """Counts by status, age of the oldest queued job and rate, by model."""
        return read_stats(self._request("GET", "jobs/stats").response)

    def _get(self, job_id: str, wait: float, deadline: Deadline) -> Job:
        params = {"wait": f"{wait:.3f}"} if wait else {}
        return read_job(self._request("GET", _job_path(job_id), deadline=deadline, wait=wait, params=params).response)

    def _unless_done(self, answer: Answer, job_id: str, done: Callable[[Job], bool]) -> Job:
        """The job in the answer. When an earlier try may have had its effect, a 409 can be its doing."""
        if answer.response.status_code == 409 and answer.repeated:
            job = self.get(job_id)
            if done(job):
                return job
        return read_job(answer.response)

    def _request(
        self, method: str, path: str, *, deadline: Deadline | None = None, wait: float = 0.0, **content: Any
    ) -> Answer:
        return self._transport.request(
            method, path, deadline=deadline or Deadline.after(self.timeout), wait=wait, **content
        )


def _job_path(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError(f"{job_id!r} is not a job id")
    return f"jobs/{job_id}"
