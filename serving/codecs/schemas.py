"""JSON Schema of values and tensors, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.core.columns import FLOAT_MAX
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES


def json_schema(dtype: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """Of one value."""
    known = DTYPES[dtype]
    if known.is_text:
        return {"type": "string"}
    if known.is_float:
        most = FLOAT_MAX[dtype]
        return {"type": ["number", "null"] if allow_nan else "number", "minimum": -most, "maximum": most}
    if known.numpy.kind == "b":
        return {"type": "boolean"}
    info = np.iinfo(known.numpy)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def tensor_schema(spec: TensorSpec, *, allow_nan: bool = False) -> dict[str, Any]:
    """Of nested lists."""
    schema = json_schema(spec.dtype, allow_nan=allow_nan)
    for length in reversed(spec.shape):
        schema = array_of(schema) if length is None else {"minItems": length, "maxItems": length} | array_of(schema)
    return schema


def array_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def object_of(properties: dict[str, Any], *, required: Sequence[str] | None = None) -> dict[str, Any]:
    """With these properties and no others; all are required unless it is said which."""
    names = list(properties) if required is None else list(required)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | {"required": names} if names else schema
