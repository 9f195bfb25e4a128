"""What an exception means in HTTP: one table, and one body shape on every route of the service's own."""

from __future__ import annotations

import math
from typing import Any, cast

import msgspec
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from serving.core.errors import (
    ConflictError,
    DeadlineExceededError,
    InvalidImageError,
    InvalidInputError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    ServingError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from serving.http.request import CLIENT_LEFT, current_request

STATUS: dict[type[ServingError], int] = {
    MalformedRequestError: 400,
    InvalidInputError: 400,
    InvalidImageError: 400,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    ConflictError: 409,
    PayloadTooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    OverloadedError: 429,
    ServingError: 500,
    UnavailableError: 503,
    DeadlineExceededError: 504,
}
_BY_STATUS: dict[int, type[ServingError]] = {
    400: MalformedRequestError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    503: UnavailableError,
}
_MOST_DETAILS = 10


class Detail(BaseModel):
    field: str = Field(description="where: a path such as `data[3][1]`, or empty for the whole request")
    message: str


class Error(BaseModel):
    code: str = Field(description="stable name for programs", examples=["invalid_input"])
    message: str = Field(description="what to change, for people")
    details: list[Detail] = Field(description="the places that are wrong, at most ten")


class ErrorResponse(BaseModel):
    """The body of every answer that is not a 2xx."""

    error: Error


def speaks_protocol(path: str) -> bool:
    """Whether a route belongs to a standard protocol, whose clients expect its own shape of errors: a mere message."""
    return path == "/v2" or path.startswith(("/v2/", "/v1/models/"))


def error_response(error: ServingError) -> Response:
    """The answer for `error`."""
    status = STATUS[type(error)]
    message = error.message
    request = current_request.get(None)
    if status >= 500 and request is not None:
        message = f"{message} (request id {request.id})"
    described: Any = {"code": error.code, "message": message, "details": error.details[:_MOST_DETAILS]}
    if request is not None and speaks_protocol(request.scope["path"]):
        described = message
    response = Response(msgspec.json.encode({"error": described}), status, media_type="application/json")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status == 413:
        # The rest of the body is not read, so the connection cannot carry another request.
        response.headers["Connection"] = "close"
    return response


def internal_error() -> ServingError:
    """What a caller is told of an exception that nobody expected; the log has the rest."""
    return ServingError("something went wrong on the server")


def from_http(error: HTTPException, path: str) -> ServingError:
    """What Starlette and BentoML raise while routing and parsing, in our tree."""
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return internal_error()
    message = {
        404: f"there is no {path}; see / for the routes",
        405: f"the method is not allowed here; allowed: {(error.headers or {}).get('Allow', 'see /')}",
        503: "not ready",
    }.get(error.status_code, error.detail)
    return kind(message, retry_after=1 if kind is UnavailableError else None)


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Starlette exception handler for its own HTTPException."""
    http_error = cast(HTTPException, error)
    if http_error.status_code == 405:
        http_error.headers = {"Allow": _allowed(request)}
    response = error_response(from_http(http_error, request.url.path))
    response.headers.update(http_error.headers or {})
    return response


def _allowed(request: Request) -> str:
    """The methods of every route of this path; Starlette names those of the first one."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in matching for method in getattr(route, "methods", None) or ()}))


async def handle_serving_error(_request: Request, error: Exception) -> Response:
    """Starlette exception handler for our tree."""
    return error_response(cast(ServingError, error))


async def handle_disconnect(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read it; the status is for the metrics and the log."""
    return Response(status_code=CLIENT_LEFT)


async def handle_unexpected(_request: Request, _error: Exception) -> Response:
    """Starlette's last resort; it logs the exception itself."""
    return error_response(internal_error())


def add_error_handlers(app: Starlette) -> None:
    """One shape for whatever goes wrong in `app`."""
    app.add_exception_handler(ServingError, handle_serving_error)
    app.add_exception_handler(HTTPException, handle_http_exception)
    app.add_exception_handler(ClientDisconnect, handle_disconnect)
    app.add_exception_handler(Exception, handle_unexpected)
