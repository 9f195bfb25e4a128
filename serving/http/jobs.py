"""The jobs routes: accepted at once, run later by whatever worker takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.codecs.base import Codec
from serving.http import job_documents as documents
from serving.http.deadline import deadline, timed
from serving.http.exchange import Answer, Exchange
from serving.http.job_handler import AFTER, KEY_HEADER, LIMIT, MODEL, STATUS, WAIT, JobsHandler, Limits
from serving.http.models import ModelSchemas
from serving.http.operations import operation
from serving.http.parameters import refuse_unknown
from serving.http.routes import Route
from serving.jobs.job import Job
from serving.jobs.work import encode
from serving.model import Model, Models

_TAG = "jobs"
_POLL_SECONDS = 1
# What can be a job's id. Anything else is no path of a job, and `/jobs/stats` is none either.
_JOB_ID = {"job_id": "(?!stats(?:/|$))[A-Za-z0-9_-]{1,64}"}
_JOB_ID_PARAMETER = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
}
_LOCATION = {"Location": {"description": "`status_url` of the job", "schema": {"type": "string"}}}
_POLL = {
    "Retry-After": {"description": "seconds, while the job is unfinished", "schema": {"type": "integer", "minimum": 1}}
}
_KEY_PARAMETER = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "description": "Chosen by the client: the same key with the same body gives the job that there is, with another "
    "body 409. The other parameters of the first request count.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_LIST_PARAMETERS = (STATUS, MODEL, LIMIT, AFTER)


def job_routes(models: Models, handler: Callable[[], JobsHandler], limits: Limits) -> list[Route]:
    """The routes that submit jobs of each model, and those of all jobs; `handler` is asked at each request."""
    return [*(_submission(model, handler, limits) for model in models), *_routes(handler, limits)]


def _accepted(job: Job) -> Answer:
    return Answer(documents.accepted(job), 202).add("location", documents.job_url(job.id))


def _submission(model: Model, handler: Callable[[], JobsHandler], limits: Limits) -> Route:
    schemas = ModelSchemas(model.name, model.codec.operation())
    known = [parameter["name"] for parameter in (*limits.parameters, *schemas.parameters)]

    async def submit(exchange: Exchange) -> Answer:
        async with deadline(exchange):
            refuse_unknown(exchange, *known)
            request = await _read(exchange, model)
            return _accepted(await handler().submit(exchange, model.name, encode(model.codec, request)))

    return Route(
        "POST",
        f"/{model.name}/jobs",
        submit,
        operation(
            f"{model.name}_submit_job",
            f"As `/{model.name}/predict`, answered later: the body is judged and kept at once.",
            tag=_TAG,
            status=202,
            description="The store has the job.",
            answer=documents.AcceptedJob,
            answer_headers=_LOCATION,
            errors=(400, 409, 413, 415, 429, 500, 503, 504),
            parameters=[*schemas.parameters, *limits.parameters, _KEY_PARAMETER],
            timed=True,
            body=schemas.request,
        ),
    )


async def _read(exchange: Exchange, model: Model) -> Any:
    """The request, judged as `/predict` judges it, but for what only decoding shows."""
    codec: Codec[Any] = model.codec
    request = None
    if exchange.is_plain_json:
        body = await exchange.body()
        request = codec.read_fast(body)
        if request is None:
            request = await codec.read(exchange.request(body))
    else:
        request = await codec.read(exchange.request())
    if not codec.judge_fast(request):
        await model.in_thread(codec.judge, request)
    return request


def _routes(handler: Callable[[], JobsHandler], limits: Limits) -> list[Route]:
    async def list_jobs(exchange: Exchange) -> Answer:
        refuse_unknown(exchange, *(each.name for each in _LIST_PARAMETERS))
        return Answer(await handler().page(exchange))

    async def job_stats(exchange: Exchange) -> Answer:
        refuse_unknown(exchange)
        return Answer(documents.stats(await handler().store.stats()))

    async def get_job(exchange: Exchange) -> Answer:
        refuse_unknown(exchange, WAIT.name)
        job = await handler().get(exchange, exchange.parameters["job_id"])
        answer = Answer(documents.description(job))
        return answer if job.status.finished else answer.add("retry-after", str(_POLL_SECONDS))

    async def cancel_job(exchange: Exchange) -> Answer:
        refuse_unknown(exchange)
        return Answer(documents.description(await handler().store.cancel(exchange.parameters["job_id"])))

    async def retry_job(exchange: Exchange) -> Answer:
        refuse_unknown(exchange, *(parameter["name"] for parameter in limits.retry_parameters))
        return _accepted(await handler().retry(exchange, exchange.parameters["job_id"]))

    return [
        Route(
            "GET",
            "/jobs",
            timed(list_jobs),
            operation(
                "list_jobs",
                "Jobs, newest first.",
                tag=_TAG,
                description="One page.",
                answer=documents.JobList,
                errors=(400, 500, 503, 504),
                parameters=[each.document() for each in _LIST_PARAMETERS],
                timed=True,
            ),
        ),
        Route(
            "GET",
            "/jobs/stats",
            timed(job_stats),
            operation(
                "job_stats",
                "How many jobs there are, and how fast they are done.",
                tag=_TAG,
                description="By model.",
                answer=documents.JobStats,
                errors=(400, 500, 503, 504),
                timed=True,
            ),
        ),
        Route(
            "GET",
            "/jobs/{job_id}",
            timed(get_job),
            operation(
                "get_job",
                "How a job is doing, and its result.",
                tag=_TAG,
                description="The job.",
                answer=documents.JobDescription,
                answer_headers=_POLL,
                errors=(400, 404, 500, 503, 504),
                parameters=[_JOB_ID_PARAMETER, WAIT.document()],
                timed=True,
            ),
            _JOB_ID,
        ),
        Route(
            "DELETE",
            "/jobs/{job_id}",
            timed(cancel_job),
            operation(
                "cancel_job",
                "Cancel a job: a queued one never runs, the result of a running one is dropped.",
                tag=_TAG,
                description="The cancelled job.",
                answer=documents.JobDescription,
                errors=(400, 404, 409, 500, 503, 504),
                parameters=[_JOB_ID_PARAMETER],
                timed=True,
            ),
            _JOB_ID,
        ),
        Route(
            "POST",
            "/jobs/{job_id}/retry",
            timed(retry_job),
            operation(
                "retry_job",
                "Queue a failed or expired job again, with all its attempts.",
                tag=_TAG,
                status=202,
                description="The job is queued again.",
                answer=documents.AcceptedJob,
                answer_headers=_LOCATION,
                errors=(400, 404, 409, 429, 500, 503, 504),
                parameters=[_JOB_ID_PARAMETER, *limits.retry_parameters],
                timed=True,
            ),
            _JOB_ID,
        ),
    ]
