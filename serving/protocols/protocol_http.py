"""What the routes of the standard protocols share: bodies, time limits, errors, and how the document shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bentoml
from pydantic import BaseModel, Field
from starlette.responses import Response

from serving.http.openapi import TIMEOUT_PARAMETER, error_responses
from serving.protocols.served_models import ServedModels


class ProtocolError(BaseModel):
    """The body of every answer of a standard protocol that is not a 2xx."""

    error: str = Field(description="what to change, for people")


def model_parameter(models: Iterable[str]) -> dict[str, Any]:
    """The parameter of a path that names one of `models`."""
    return {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": list(models)}}


def served_models() -> ServedModels:
    """Of the service of this process."""
    models: ServedModels = bentoml.get_current_service().served_models
    return models


def json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def declare(
    tag: str,
    summary: str,
    statuses: Iterable[int],
    *,
    parameters: Iterable[dict[str, Any]] = (),
    timed: bool = False,
    body: dict[str, Any] | None = None,
    body_required: bool = True,
) -> dict[str, Any]:
    """Keyword arguments of a FastAPI route: what `/docs.json` says of it.

    Args:
        timed: it predicts, so that the client's time limit counts.
        body: content of the request, by media type.
    """
    extra: dict[str, Any] = {"parameters": [*parameters, *([TIMEOUT_PARAMETER] if timed else [])]}
    if body is not None:
        extra["requestBody"] = {"required": body_required, "content": body}
    return {
        "tags": [tag],
        "summary": summary,
        "responses": {
            status: {name: part for name, part in response.items() if name != "content"} | {"model": ProtocolError}
            for status, response in error_responses(statuses).items()
        },
        "openapi_extra": extra,
    }
