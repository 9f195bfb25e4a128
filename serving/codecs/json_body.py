"""Bodies that are JSON, and how they are told from others: one rule for all native routes.

A body is JSON where its content type says so. Many programs send JSON under a type that says nothing, as `curl -d`
does; then it is JSON where it begins as an object, in whatever characters.
"""

from __future__ import annotations

from starlette.requests import Request

from serving.core.errors import UnsupportedMediaTypeError
from serving.core.json_text import as_utf8
from serving.core.validation import shortened

_HEAD_BYTES = 64
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
    # Blanks, byte order marks and what UTF-16 and UTF-32 have before a character.
    return says_nothing(kind) and body[:_HEAD_BYTES].lstrip(b" \t\r\n\xef\xbb\xbf\xfe\xff\0")[:1] == b"{"


async def read_json(request: Request) -> bytes:
    """A body that has to be JSON, in UTF-8; it may be empty.

    Raises:
        UnsupportedMediaTypeError: it is something else.
        MalformedRequestError: it is not text in its charset.
    """
    kind = media_type(request)
    if is_json(kind) or says_nothing(kind):
        body = await request.body()
        if is_json(kind, body) or not (kind and body):
            return as_utf8(body, request.headers.get("content-type", ""))
    raise UnsupportedMediaTypeError(f"content type {shortened(kind)} is not supported; send application/json")
