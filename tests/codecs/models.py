"""Codecs of models that have metadata and no graph."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request

from serving.codecs.base import Codec
from serving.codecs.opening import open_codec
from serving.core.signature import TensorSpec
from serving.core.tensors import Tensors, strings
from serving.settings.models import ModelSettings
from serving.store.models import ModelMetadata, StoredModel

FEATURES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=list(shape))


def stored_model(path: Path = Path(), **values: Any) -> StoredModel:
    """A stored model with these parts of its metadata; three classes of rows of four numbers unless they say else."""
    if "kind" not in values:
        values = {
            "kind": "rows",
            "task": "classification",
            "scores": "probabilities",
            "labels": ["setosa", "versicolor", "virginica"],
            "feature_names": FEATURES,
            "inputs": [spec("features", "float32", None, 4)],
            "outputs": [spec("probabilities", "float32", None, 3)],
        } | values
    values = {"format": "onnx", "versions": {}, "onnx_ir_version": 8, "onnx_opset": 17} | values
    return StoredModel("tiny:1", path, "2020-01-01T00:00:00+00:00", ModelMetadata(**values))


def make_codec(settings: dict[str, Any] | None = None, **values: Any) -> Any:
    """The codec of `stored_model(**values)`."""
    codec: Codec[Any] = open_codec(stored_model(**values), ModelSettings(**(settings or {})))
    return codec


def make_request(body: bytes, content_type: str | None = "application/json", query: str = "") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    # Starlette raises another exception for a broken form outside an app.
    scope = {"type": "http", "app": None, "method": "POST", "headers": headers, "query_string": query.encode()}
    return Request(scope, receive)


def read(codec: Codec[Any], body: bytes, content_type: str | None = "application/json", query: str = "") -> Any:
    """What `Codec.read` makes of a request."""
    return asyncio.run(codec.read(make_request(body, content_type, query)))


def same(one: Tensors, other: Tensors) -> bool:
    """Whether tensors are equal to the last bit: names, dtypes, shapes and values."""
    return list(one) == list(other) and all(
        (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
        and (
            array.tolist() == other[name].tolist()
            if array.dtype == object
            else array.tobytes() == other[name].tobytes()
        )
        for name, array in one.items()
    )


def text(*values: str) -> np.ndarray[Any, Any]:
    return strings(values)
