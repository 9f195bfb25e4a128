"""What an exception means in HTTP: one table, and one body shape on every route of the service's own."""

from __future__ import annotations

import math
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serving.core.errors import (
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    ServingError,
    UnavailableError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from serving.http.content_encoding import SUPPORTED
from serving.http.exchange import Answer

STATUS: dict[type[ServingError], int] = {
    MalformedRequestError: 400,
    InvalidInputError: 400,
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
"""Subclasses that are not here have the status of the class that they are made from."""
_BY_STATUS: dict[int, type[ServingError]] = {
    400: MalformedRequestError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    503: UnavailableError,
}
_MOST_DETAILS = 10
REQUEST_ID_KEY = "serving.request_id"
"""Where the id of a request stands in the ASGI scope for BentoML's application."""


def status_of(error: ServingError) -> int:
    """The status that a caller gets for `error`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def speaks_protocol(path: str) -> bool:
    """Whether a route belongs to a standard protocol, whose clients expect its own shape of errors: a mere message."""
    return path in ("/v2", "/v1/models") or path.startswith(("/v2/", "/v1/models/"))


def error_answer(error: ServingError, *, path: str = "", request_id: str = "") -> Answer:
    """The answer for `error`.

    Args:
        path: of the request; a standard protocol has its own shape.
        request_id: stands in the message of a failure, as the log has it too.
    """
    status = status_of(error)
    message = error.message
    if status >= 500 and request_id:
        message = f"{message} (request id {request_id})"
    described: Any = {"code": error.code, "message": message, "details": error.details[:_MOST_DETAILS]}
    if speaks_protocol(path):
        described = message
    answer = Answer(msgspec.json.encode({"error": described}), status)
    if isinstance(error, MethodNotAllowedError) and error.allowed:
        answer.add("allow", error.allowed)
    if isinstance(error, UnsupportedEncodingError):
        answer.add("accept-encoding", SUPPORTED)
    if error.retry_after is not None:
        answer.add("retry-after", str(math.ceil(error.retry_after)))
    if status == 413:
        # The rest of the body is not read, so the connection cannot carry another request.
        answer.add("connection", "close")
    return answer


def internal_error() -> ServingError:
    """What a caller is told of an exception that the service did not expect; the log has the rest."""
    return ServingError("something went wrong on the server")


def from_http(error: HTTPException, path: str) -> ServingError:
    """What Starlette and BentoML raise while routing and parsing, in our tree."""
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return internal_error()
    if kind is MethodNotAllowedError:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowedError(f"the method is not allowed here; allowed: {allowed or 'see /'}", allowed=allowed)
    message = {404: f"there is no {path}; see / for the routes", 503: "not ready"}.get(error.status_code, error.detail)
    return kind(message, retry_after=1 if kind is UnavailableError else None)


def _response(error: ServingError, request: Request) -> Response:
    answer = error_answer(error, path=request.url.path, request_id=request.scope.get(REQUEST_ID_KEY, ""))
    response = Response(answer.body, answer.status)
    response.raw_headers.extend(header for header in answer.headers if header[0] != b"content-length")
    return response


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    return _response(from_http(cast(HTTPException, error), request.url.path), request)


async def _handle_serving_error(request: Request, error: Exception) -> Response:
    return _response(cast(ServingError, error), request)


async def _handle_unexpected(request: Request, _error: Exception) -> Response:
    """Starlette's last resort; it logs the exception itself."""
    return _response(internal_error(), request)


def add_error_handlers(app: Starlette) -> None:
    """One shape for whatever goes wrong in `app`."""
    app.add_exception_handler(ServingError, _handle_serving_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_unexpected)
