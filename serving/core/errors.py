"""The one exception tree. What an exception means in HTTP stands in `serving.http.errors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One thing that is wrong: `field` is a path such as `data[3][1]`, empty for the whole request."""

    field: str
    message: str


class ServingError(Exception):
    """Base of every error that a caller is told about.

    `code` is the stable, machine-readable name; `message` says what to change and never anything
    internal; `details` lists the places. `retry_after` (seconds) is set where trying again may help.
    """

    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[ErrorDetail] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.retry_after = retry_after


class InvalidInputError(ServingError):
    """The request can be read but its values cannot be predicted."""

    code = "invalid_input"


class InvalidImageError(InvalidInputError):
    """The bytes are not an image that may be decoded."""

    code = "invalid_image"


class MalformedRequestError(ServingError):
    """The body is not what its content type says: broken JSON, broken multipart, broken base64."""

    code = "malformed_request"


class ConflictError(ServingError):
    """The request contradicts the state of what it names: a job that has finished, a key that is taken."""

    code = "conflict"


class PayloadTooLargeError(ServingError):
    code = "payload_too_large"


class UnsupportedMediaTypeError(ServingError):
    code = "unsupported_media_type"


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The body is compressed in a way that is not taken."""


class NotFoundError(ServingError):
    code = "not_found"


class MethodNotAllowedError(ServingError):
    """The path has other methods: `allowed`, separated by commas."""

    code = "method_not_allowed"

    def __init__(
        self,
        message: str,
        *,
        allowed: str = "",
        details: Sequence[ErrorDetail] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, details=details, retry_after=retry_after)
        self.allowed = allowed


class OverloadedError(ServingError):
    """A bounded queue is full. Always carries `retry_after`."""

    code = "overloaded"


class UnavailableError(ServingError):
    """Not now: a runner is down or starting, or the server is draining. Always carries `retry_after`."""

    code = "unavailable"


class DeadlineExceededError(ServingError):
    """The request took longer than its time limit; its work has been dropped."""

    code = "deadline_exceeded"


class ConfigurationError(Exception):
    """The settings name something that does not exist. Raised at start-up, for the operator."""


class ModelError(Exception):
    """A stored model cannot be served: missing, incomplete, or made by incompatible libraries.

    Raised at start-up, so it is for the operator and not part of the callers' tree.
    """
