"""What the OpenAPI document says of a route: OpenAPI's operation objects, made of few parts.

https://spec.openapis.org/oas/v3.1.0#operation-object
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, Field

TIMEOUT_PARAMETER: dict[str, Any] = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "Milliseconds that the answer may take, if less than `server.request_timeout_seconds`.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}
_MEANING = {
    400: "The request is malformed, or its values cannot be predicted.",
    404: "There is nothing here.",
    409: "It contradicts the state of what it names.",
    413: "The body is larger than `api.max_request_bytes`, or a job than `jobs.max_payload_bytes`.",
    415: "The content type or the content encoding is none that is taken here.",
    429: "Too many requests are waiting; come back after `Retry-After` seconds.",
    500: "The server failed; the message has the request id that its log has.",
    503: "Starting or draining, or what it needs is away; come back after `Retry-After` seconds.",
    504: "Not answered within `server.request_timeout_seconds`, or what `X-Request-Timeout-Ms` lowers it to.",
}
_RETRY = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}


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


class Schema:
    """A JSON Schema with a name, which the document keeps once for all routes."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        self.name = name
        self.content = dict(content)


Body = type[BaseModel] | Schema | Mapping[str, Any]
"""A pydantic model, a named schema, or a schema as it is."""


def operation(
    name: str,
    summary: str,
    *,
    tag: str,
    answer: Body | None = None,
    status: int = 200,
    description: str = "The answer.",
    answer_headers: Mapping[str, Any] | None = None,
    answer_types: Mapping[str, Any] | None = None,
    errors: Iterable[int] = (),
    error: type[BaseModel] = ErrorResponse,
    parameters: Iterable[Mapping[str, Any]] = (),
    timed: bool = False,
    body: Mapping[str, Body] | None = None,
    body_required: bool = True,
) -> dict[str, Any]:
    """An operation object in which bodies still are what `Body` says; `serving.http.openapi` writes schemas of them.

    Args:
        name: the operation id: what generated clients call their method.
        answer: of `status`, as JSON.
        answer_types: further media types of it, with their content.
        errors: statuses of refusals; each has the body `error`.
        timed: it has a time limit, which the client may lower.
        body: of the request, by media type.
    """
    content: dict[str, Any] = {} if answer is None else {"application/json": {"schema": answer}}
    content |= answer_types or {}
    responses: dict[str, Any] = {str(status): {"description": description, **({"content": content} if content else {})}}
    if answer_headers:
        responses[str(status)]["headers"] = dict(answer_headers)
    for each in sorted(set(errors)):
        response: dict[str, Any] = {
            "description": _MEANING[each],
            "content": {"application/json": {"schema": error}},
        }
        if each in (429, 503):
            response["headers"] = {"Retry-After": _RETRY}
        responses[str(each)] = response
    found: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "parameters": [*([TIMEOUT_PARAMETER] if timed else []), *parameters],
        "responses": responses,
    }
    if body is not None:
        found["requestBody"] = {
            "required": body_required,
            "content": {kind: {"schema": schema} for kind, schema in body.items()},
        }
    return found
