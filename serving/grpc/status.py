"""What an exception means in gRPC: one table, with the HTTP status that metrics and log go by."""

from __future__ import annotations

import math
from typing import NamedTuple

import grpc

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
    UnsupportedMediaTypeError,
)


class Status(NamedTuple):
    """Of a call that failed."""

    code: grpc.StatusCode
    http: int
    """Of the same error in HTTP, for metrics and log, so that both count alike."""


STATUS: dict[type[ServingError], Status] = {
    MalformedRequestError: Status(grpc.StatusCode.INVALID_ARGUMENT, 400),
    InvalidInputError: Status(grpc.StatusCode.INVALID_ARGUMENT, 400),
    NotFoundError: Status(grpc.StatusCode.NOT_FOUND, 404),
    MethodNotAllowedError: Status(grpc.StatusCode.UNIMPLEMENTED, 405),
    ConflictError: Status(grpc.StatusCode.FAILED_PRECONDITION, 409),
    PayloadTooLargeError: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    UnsupportedMediaTypeError: Status(grpc.StatusCode.INVALID_ARGUMENT, 415),
    OverloadedError: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    ServingError: Status(grpc.StatusCode.INTERNAL, 500),
    UnavailableError: Status(grpc.StatusCode.UNAVAILABLE, 503),
    DeadlineExceededError: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
}
"""Subclasses that are not here have the status of the class that they are made from."""
CLIENT_LEFT = 499
"""HTTP status of a call that was cancelled."""
RETRY_AFTER = "retry-after"
"""Trailing metadata: whole seconds, as the header of HTTP."""


def status_of(error: ServingError) -> Status:
    """The status that a caller gets for `error`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def trailing(error: ServingError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that `error` adds."""
    return () if error.retry_after is None else ((RETRY_AFTER, str(math.ceil(error.retry_after))),)


def internal_error() -> ServingError:
    """What a caller is told of an exception that the service did not expect; the log has the rest."""
    return ServingError("something went wrong on the server")
