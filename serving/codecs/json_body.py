"""Bodies that are JSON."""

from __future__ import annotations

from starlette.requests import Request

from serving.core.errors import UnsupportedMediaTypeError


def media_type(request: Request) -> str:
    """The media type without parameters, in lower case; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaTypeError unless the body is declared as JSON or not declared at all."""
    kind = media_type(request)
    if kind not in ("application/json", ""):
        raise UnsupportedMediaTypeError(f"content type {kind} is not supported; send application/json")
