"""The jobs routes: accepted at once, run later by whatever worker takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import bentoml
from fastapi import FastAPI
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from serving.http import job_documents as documents
from serving.http.deadline import deadline
from serving.http.decoding import RankedImageBody, read_image, require_json
from serving.http.inception_v3 import InceptionV3Handler
from serving.http.job_handler import AFTER, KEY_HEADER, LIMIT, MODEL, STATUS, WAIT, JobsHandler, Limits, make_limits
from serving.http.mounted import make_mounted_app
from serving.http.openapi import TIMEOUT_PARAMETER, error_responses
from serving.http.parameters import refuse_unknown
from serving.http.schemas import DEFAULT_TOP_K, rows_decoder
from serving.jobs.job import Job
from serving.jobs.work import Encoded, encode_image, encode_rows
from serving.settings import Settings

_POLL_SECONDS = 1


class _JobId(StringConvertor):
    """What can be a job's id. Anything else is no path of a job, and `/jobs/stats` is none either."""

    regex = "(?!stats(?:/|$))[A-Za-z0-9_-]{1,64}"


register_url_convertor("job_id", _JobId())


def _jobs() -> JobsHandler:
    # Not by FastAPI's Depends, which takes a tenth of the time of a submission.
    jobs: JobsHandler = bentoml.get_current_service().jobs
    return jobs


_JOB_ID_PARAMETER = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
}
_LOCATION = {"description": "`status_url` of the job", "schema": {"type": "string"}}
_POLL = {"description": "seconds, while the job is unfinished", "schema": {"type": "integer", "minimum": 1}}
_KEY_PARAMETER = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "description": "Chosen by the client: the same key with the same body gives the job that there is, with another "
    "body 409. The other parameters of the first request count.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def _json(body: bytes, status: int = 200, **headers: str) -> Response:
    return Response(body, status, headers, media_type="application/json")


def _accepted(job: Job) -> Response:
    return _json(documents.accepted(job), 202, Location=documents.job_url(job.id))


def make_jobs(settings: Settings) -> FastAPI:
    """The jobs routes of the models that are served, and those of all jobs, as an app to mount."""
    app = make_mounted_app()
    limits = make_limits(settings)
    if settings.iris.enabled:
        _add_submission(app, "iris", _read_rows, limits)
    if settings.inception_v3.enabled:
        _add_submission(app, "inception_v3", _read_picture, limits)
    _add_jobs(app, limits)
    return app


async def _read_rows(_service: Any, request: Request) -> Encoded:
    require_json(request)
    body = await request.body()
    rows = rows_decoder.fast(body)
    return encode_rows(rows_decoder.explain(body) if rows is None else rows)


async def _read_picture(service: Any, request: Request) -> Encoded:
    content, top_k = await read_image(request, RankedImageBody)
    top_k = top_k or DEFAULT_TOP_K
    handler: InceptionV3Handler = service.inception_v3
    await handler.check(content, top_k)
    return encode_image(content, top_k=top_k)


def _declare(statuses: tuple[int, ...], *parameters: dict[str, Any], **answers: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a route; `answers` are headers of good answers by status, as `_202={…}`."""
    return {
        "tags": ["jobs"],
        "responses": error_responses(statuses)
        | {int(status[1:]): {"headers": headers} for status, headers in answers.items()},
        "openapi_extra": {"parameters": [TIMEOUT_PARAMETER, *parameters]},
    }


def _add_submission(
    app: FastAPI, model: str, read: Callable[[Any, Request], Awaitable[Encoded]], limits: Limits
) -> None:
    async def submit(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request, *known)
            encoded = await read(bentoml.get_current_service(), request)
            return _accepted(await _jobs().submit(request, model, encoded))

    known = [*(parameter["name"] for parameter in limits.parameters), *(["top_k"] if model == "inception_v3" else [])]
    app.post(
        f"/{model}/jobs",
        name=f"{model}_submit_job",
        summary=f"As `/{model}/predict`, answered later: the body is judged and kept at once.",
        status_code=202,
        response_model=documents.AcceptedJob,
        response_description="The store has the job.",
        **_declare(
            (400, 409, 413, 415, 429, 500, 503, 504), *limits.parameters, _KEY_PARAMETER, _202={"Location": _LOCATION}
        ),
    )(submit)


def _add_jobs(app: FastAPI, limits: Limits) -> None:
    @app.get(
        "/jobs",
        response_model=documents.JobList,
        response_description="One page.",
        summary="Jobs, newest first.",
        **_declare((400, 500, 503, 504), *(each.document() for each in (STATUS, MODEL, LIMIT, AFTER))),
    )
    async def list_jobs(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request, *(each.name for each in (STATUS, MODEL, LIMIT, AFTER)))
            return _json(await _jobs().page(request))

    @app.get(
        "/jobs/stats",
        response_model=documents.JobStats,
        response_description="By model.",
        summary="How many jobs there are, and how fast they are done.",
        **_declare((400, 500, 503, 504)),
    )
    async def job_stats(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request)
            return _json(documents.stats(await _jobs().store.stats()))

    @app.get(
        "/jobs/{job_id:job_id}",
        response_model=documents.JobDescription,
        response_description="The job.",
        summary="How a job is doing, and its result.",
        **_declare((400, 404, 500, 503, 504), _JOB_ID_PARAMETER, WAIT.document(), _200={"Retry-After": _POLL}),
    )
    async def get_job(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request, WAIT.name)
            job = await _jobs().get(request, request.path_params["job_id"])
        response = _json(documents.description(job))
        if not job.status.finished:
            response.headers["Retry-After"] = str(_POLL_SECONDS)
        return response

    @app.delete(
        "/jobs/{job_id:job_id}",
        response_model=documents.JobDescription,
        response_description="The cancelled job.",
        summary="Cancel a job: a queued one never runs, the result of a running one is dropped.",
        **_declare((400, 404, 409, 500, 503, 504), _JOB_ID_PARAMETER),
    )
    async def cancel_job(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request)
            return _json(documents.description(await _jobs().store.cancel(request.path_params["job_id"])))

    @app.post(
        "/jobs/{job_id:job_id}/retry",
        status_code=202,
        response_model=documents.AcceptedJob,
        response_description="The job is queued anew.",
        summary="Queue a failed or expired job anew, with all its attempts.",
        **_declare(
            (400, 404, 409, 429, 500, 503, 504),
            _JOB_ID_PARAMETER,
            *limits.retry_parameters,
            _202={"Location": _LOCATION},
        ),
    )
    async def retry_job(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request, *(parameter["name"] for parameter in limits.retry_parameters))
            return _accepted(await _jobs().retry(request, request.path_params["job_id"]))
