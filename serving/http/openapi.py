"""The OpenAPI 3.1 document at `/docs.json`, written from the table of routes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.http.operations import Schema
from serving.http.routes import Route

_REFERENCE = "#/components/schemas/{model}"
_REQUEST_ID = {"description": "as sent, or made by the server", "schema": {"type": "string"}}


def document(
    routes: Iterable[Route], *, title: str, description: str, version: str, tags: Mapping[str, str]
) -> dict[str, Any]:
    """The document of `routes`; those without an operation are left out.

    Args:
        tags: what the tags of the operations mean.
    """
    described = [route for route in routes if route.operation]
    bodies = [body for route in described for body in _bodies(route.operation)]
    models = [body for body in bodies if isinstance(body, type)]
    _, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REFERENCE
    )
    schemas: dict[str, Any] = definitions.get("$defs", {})
    schemas |= {body.name: body.content for body in bodies if isinstance(body, Schema)}
    paths: dict[str, Any] = {}
    for route in described:
        operation = _written(route.operation)
        for response in operation["responses"].values():
            response.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "description": description,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        # Said, because nothing said is also what a forgotten scheme looks like.
        "security": [],
        "tags": [{"name": tag, "description": tags[tag]} for tag in _tags(described)],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _tags(routes: Iterable[Route]) -> list[str]:
    return list(dict.fromkeys(tag for route in routes for tag in route.operation["tags"]))


def _bodies(value: Any) -> Iterator[type[BaseModel] | Schema]:
    """The models and named schemas in an operation."""
    if isinstance(value, Schema) or (isinstance(value, type) and issubclass(value, BaseModel)):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _bodies(each)
    elif isinstance(value, list):
        for each in value:
            yield from _bodies(each)


def _written(value: Any) -> Any:
    """An operation with references in the places of models and named schemas."""
    if isinstance(value, Schema):
        return {"$ref": _REFERENCE.format(model=value.name)}
    if isinstance(value, type):
        return {"$ref": _REFERENCE.format(model=value.__name__)}
    if isinstance(value, Mapping):
        return {name: _written(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_written(each) for each in value]
    return copy.copy(value)
