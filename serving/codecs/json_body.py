"""Bodies that are JSON, and how they are told from others: one rule for all native routes.

A body is JSON where its content type says so. Many programs send JSON under a type that says nothing, as `curl -d`
does; then it is JSON where it begins as an object.
"""

from __future__ import annotations

from starlette.requests import Request

from serving.core.errors import UnsupportedMediaTypeError
from serving.core.validation import shortened

_SAYS_NOTHING = ("", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain")


def media_type(request: Request) -> str:
    """The media type without parameters, in lower case; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def says_nothing(kind: str) -> bool:
    """Whether programs send bodies of any kind under this media type."""
    return kind in _SAYS_NOTHING


def is_json(kind: str, body: bytes = b"") -> bool:
    """Whether a body is JSON, as its media type says, or itself where that says nothing."""
    if kind in ("application/json", "text/json") or kind.endswith("+json"):
        return True
    return says_nothing(kind) and body.lstrip()[:1] == b"{"


async def read_json(request: Request) -> bytes:
    """A body that has to be JSON; it may be empty.

    Raises:
        UnsupportedMediaTypeError: it is something else.
    """
    kind = media_type(request)
    if is_json(kind) or says_nothing(kind):
        body = await request.body()
        if is_json(kind, body) or not (kind and body):
            return body
    raise UnsupportedMediaTypeError(f"content type {shortened(kind)} is not supported; send application/json")
