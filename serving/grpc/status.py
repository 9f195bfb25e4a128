"""What an exception means in gRPC: one table beside that of HTTP, which metrics and log go by."""

from __future__ import annotations

import math

import grpc

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

CODE: dict[type[ServingError], grpc.StatusCode] = {
    MalformedRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidImageError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    MethodNotAllowedError: grpc.StatusCode.UNIMPLEMENTED,
    ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    PayloadTooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnsupportedMediaTypeError: grpc.StatusCode.INVALID_ARGUMENT,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ServingError: grpc.StatusCode.INTERNAL,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
RETRY_AFTER = "retry-after"
"""Trailing metadata: whole seconds, as the header of HTTP."""


def trailing(error: ServingError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that `error` adds."""
    return () if error.retry_after is None else ((RETRY_AFTER, str(math.ceil(error.retry_after))),)
