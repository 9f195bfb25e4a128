"""`/schema.json`: what BentoML's own HTTP client asks for before its first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.codecs.base import Operation
from serving.model import Model, Models

_NAME = "model_serving"
_FORM = "multipart/form-data"
_FILE = {"type": "file", "format": "image", "content_type": "image/*"}


def client_schema(models: Models) -> dict[str, Any]:
    """The methods of BentoML's client: `iris_predict(data=…)`, in the form of BentoML's services."""
    return {
        "name": _NAME,
        "type": "service",
        "routes": [method for model in models for method in _methods(model)],
    }


def _methods(model: Model) -> list[dict[str, Any]]:
    described = model.codec.operation()
    fields = _fields(described)
    methods = [
        _method(model, "predict", fields, described.answer),
        _method(model, "predict/batched", fields, described.answer),
    ]
    if described.label is not None:
        without = {**fields, "properties": {key: each for key, each in fields["properties"].items() if key != "top_k"}}
        methods.append(_method(model, "predict/label", without, described.label))
    return methods


def _method(model: Model, path: str, fields: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{model.name}_{path.replace('/', '_')}",
        "route": f"/{model.name}/{path}",
        "batchable": False,
        "input": fields,
        "output": answer,
        "is_task": False,
    }


def _fields(described: Operation) -> dict[str, Any]:
    """The arguments of a method: the fields of the form where there is a file, else those of the JSON body."""
    schema: Mapping[str, Any] = described.content.get(_FORM, described.content["application/json"])["schema"]
    properties = {
        name: _FILE if each.get("format") == "binary" else each for name, each in schema["properties"].items()
    }
    return {**schema, "properties": properties}
