"""The OpenAPI 3.1 document at `/docs.json`, from the declared methods, the views and the error table.

BentoML's own generator writes 3.0, knows one content type for each method, and declares error bodies that this
service never sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import yaml
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from PIL import Image
from pydantic.json_schema import models_json_schema

import serving
from serving.http.errors import ErrorResponse
from serving.http.schemas import ImageRequest, RankedImageRequest
from serving.inventory import built_service
from serving.settings import get_settings
from serving.store.models import open_model

if TYPE_CHECKING:
    from pydantic import BaseModel

_REFERENCE = "#/components/schemas/{model}"
_MEANING = {
    400: "The request is malformed, or its values cannot be predicted.",
    404: "There is nothing here.",
    409: "It contradicts the state of what it names.",
    413: "The body is larger than `api.max_request_bytes`, or a job than `jobs.max_payload_bytes`.",
    415: "The content type is not one of those listed.",
    429: "Too many requests are waiting; come back after `Retry-After` seconds.",
    500: "The server failed; the message has the request id that its log has.",
    503: "Starting or draining, or what it needs is away; come back after `Retry-After` seconds.",
    504: "Not answered within `serving.request_timeout_seconds`, or what `X-Request-Timeout-Ms` lowers it to.",
}
_JSON_ERRORS = (400, 413, 415, 500, 504)
RUNNER_ERRORS = (400, 429, 500, 503, 504)
TIMEOUT_PARAMETER = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "Milliseconds that the answer may take, if less than `serving.request_timeout_seconds`.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}
_RETRY = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}


@dataclass(frozen=True)
class Document:
    """The document; `asdict` is how BentoML asks for it."""

    content: dict[str, Any]

    def asdict(self) -> dict[str, Any]:
        return self.content


# As BentoML writes it into a Bento.
yaml.add_representer(Document, lambda dumper, document: dumper.represent_dict(document.content))


def error_responses(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation for `statuses`, in OpenAPI's form."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted(set(statuses)):
        response: dict[str, Any] = {
            "description": _MEANING[status],
            "content": {"application/json": {"schema": _reference(ErrorResponse)}},
        }
        if status in (429, 503):
            response["headers"] = {"Retry-After": _RETRY}
        responses[status] = response
    return responses


def document(service: Any) -> Document:
    """The document of a BentoML service and the FastAPI apps that are mounted on it."""
    apis = list(service.apis.values())
    models: list[type[BaseModel]] = [ErrorResponse]
    paths: dict[str, Any] = {}
    for api in apis:
        takes_image = issubclass(api.input_spec, ImageRequest)
        runs_elsewhere = takes_image or api.route.endswith("/batched")
        output = _declared(api.output_spec)
        models += [output, api.input_spec.json_body if takes_image else api.input_spec]
        paths[api.route] = {
            "post": {
                "operationId": api.name,
                "summary": api.doc,
                "tags": [api.route.split("/")[1]],
                "requestBody": {
                    "required": True,
                    "content": _image_content(api.input_spec)
                    if takes_image
                    else {"application/json": {"schema": _reference(api.input_spec)}},
                },
                "parameters": [
                    TIMEOUT_PARAMETER,
                    *([_top_k_parameter()] if api.input_spec is RankedImageRequest else []),
                ],
                "responses": _numbered(
                    {
                        200: {
                            "description": "The prediction.",
                            "content": {"application/json": {"schema": _reference(output)}},
                        },
                        **error_responses((*_JSON_ERRORS, *(RUNNER_ERRORS if runs_elsewhere else ()))),
                    }
                ),
                "x-bentoml-name": api.name,
            }
        }
    for app, _, _ in service.mount_apps:
        if isinstance(app, FastAPI):
            models += getattr(app.state, "bodies", [])
    _, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REFERENCE
    )
    schemas = definitions["$defs"]
    if RankedImageRequest.json_body.__name__ in schemas:
        schemas[RankedImageRequest.json_body.__name__]["properties"]["top_k"] |= _top_k_schema()
    for app, _, _ in service.mount_apps:
        if isinstance(app, FastAPI):
            views = get_openapi(title=app.title, version=serving.__version__, routes=app.routes)
            schemas |= views.get("components", {}).get("schemas", {})
            paths |= views["paths"]
    _describe_submissions(apis, paths)
    paths |= _infrastructure()
    for path in paths.values():
        for operation in path.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-ID"] = {
                    "description": "as sent, or made by the server",
                    "schema": {"type": "string"},
                }
    return Document(
        {
            "openapi": "3.1.0",
            "info": {
                "title": service.name,
                "description": (service.inner.__doc__ or "").strip(),
                # Known before the Bento is there: the document in it is the one that it answers.
                "version": built_service().version or serving.__version__,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "."}],
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": dict(sorted(schemas.items()))},
        }
    )


def _describe_submissions(apis: Iterable[Any], paths: dict[str, Any]) -> None:
    """The body of `/{model}/jobs` is that of `/{model}/predict`, and so is `top_k`."""
    for api in apis:
        submission = paths.get(f"{api.route.removesuffix('/predict')}/jobs")
        if submission is not None:
            submission["post"]["requestBody"] = paths[api.route]["post"]["requestBody"]
            if api.input_spec is RankedImageRequest:
                submission["post"]["parameters"].append(_top_k_parameter())


def _declared(output_spec: type[BaseModel]) -> type[BaseModel]:
    """BentoML derives a class of its own from the declared one; the document shows the declared one."""
    return output_spec.__bases__[-1]


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _numbered(responses: dict[int | str, Any]) -> dict[str, Any]:
    return {str(status): response for status, response in responses.items()}


def _image_content(input_spec: type[ImageRequest]) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "The image file."}
    fields: dict[str, Any] = {"image": file}
    if input_spec is RankedImageRequest:
        fields["top_k"] = _top_k_schema()
    Image.init()
    types = [Image.MIME[name] for name in get_settings().inception_v3.image.allowed_formats]
    return {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["image"], "properties": fields, "additionalProperties": False}
        },
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in types},
        "application/json": {"schema": _reference(input_spec.json_body)},
    }


def _top_k_schema() -> dict[str, Any]:
    classes = len(open_model(get_settings().inception_v3.tag).metadata.labels)
    default = RankedImageRequest.model_fields["top_k"].default
    return {"type": "integer", "minimum": 1, "maximum": classes, "default": min(default, classes)}


def _top_k_parameter() -> dict[str, Any]:
    return {
        "name": "top_k",
        "in": "query",
        "required": False,
        "description": "How many classes to name; in the query or in the body, not in both.",
        # No default here: a client that sends the defaults of everything would say it twice.
        "schema": {key: value for key, value in _top_k_schema().items() if key != "default"},
    }


def _infrastructure() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    meanings = {
        "/livez": "The process answers.",
        "/healthz": "The process answers; another name for `/livez`.",
        "/readyz": "The model is loaded, the runners answer, and the server is not draining.",
    }
    return {
        path: {
            "get": {
                "operationId": path[1:],
                "summary": meaning,
                "tags": ["infrastructure"],
                "responses": _numbered(
                    {
                        HTTPStatus.OK.value: {"description": "Yes.", "content": text},
                        **(error_responses([503]) if path == "/readyz" else {}),
                    }
                ),
            }
        }
        for path, meaning in meanings.items()
    }
