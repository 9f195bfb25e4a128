"""Reading a sample: inputs of a model as JSON, in the form that requests to it have, or an image file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import Message

from serving.add.trial import Input
from serving.codecs.base import Codec
from serving.core.errors import ModelError, ServingError
from serving.core.signature import TensorSpec
from serving.core.tensors import Tensors, count
from serving.settings.models import Kind, ModelSettings
from serving.store.models import ModelMetadata, StoredModel

_MOST_BYTES = 64 << 20
_MOST_ROWS = 1024
_MOST_DIMENSIONS = 16


def read_bytes(file: Path) -> bytes:
    """The content of a sample; raises ModelError."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ModelError(f"--sample {file}: larger than {_MOST_BYTES >> 20} MB")
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"--sample {file}: {error.strerror}") from error


def read_sample(file: Path, inputs: Sequence[Input], features: Sequence[str]) -> Tensors:
    """Inputs in a file: `{"data": …}` of rows, or `{"inputs": {…}}`; null is NaN.

    Args:
        features: names of the columns, if there are any.

    Raises:
        ModelError: says what is wrong with the file.
    """
    content = read_bytes(file)
    place = f"--sample {file}"
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{place}: no JSON; {_forms(inputs)}") from error
    if not isinstance(body, dict) or len(body) != 1 or not {"data", "inputs"} & set(body):
        raise ModelError(f"{place}: {_forms(inputs)}")
    try:
        tensors = (
            _read_rows(content, body, inputs, features) if "data" in body else _read_tensors(content, body, inputs)
        )
    except ServingError as error:
        raise ModelError(f"{place}: {error.message}") from error
    if any(array.ndim and not len(array) for array in tensors.values()):
        raise ModelError(f"{place}: there are no rows in it")
    return tensors


def _forms(inputs: Sequence[Input]) -> str:
    names = ", ".join(f'"{each.name}": …' for each in inputs)
    return f'an object {{"data": [[…]]}} or {{"inputs": {{{names[:200]}}}}} is required'


def _read_rows(content: bytes, body: dict[str, Any], inputs: Sequence[Input], features: Sequence[str]) -> Tensors:
    from serving.codecs.rows import RowsCodec

    specs = []
    width = _width(body["data"])
    for each in inputs:
        shape = each.spec.shape
        if len(shape) not in (1, 2):
            raise ModelError(f'--sample: {each.name} has {len(shape)} dimensions and is no table; use {{"inputs": …}}')
        if len(shape) == 2 and shape[1] is None:
            if len(inputs) > 1:
                raise ModelError(f'--sample: the number of columns of {each.name} is not known; use {{"inputs": …}}')
            shape = [None, width]
        specs.append(TensorSpec(name=each.name, dtype=each.dtype, shape=[None, *shape[1:]]))
    metadata = _provisional("rows", specs, list(features))
    tensors: Tensors = asyncio.run(_read(RowsCodec, metadata, content))
    if count(tensors) > _MOST_ROWS:
        raise ModelError(f"--sample: at most {_MOST_ROWS} rows")
    return tensors


def _width(data: Any) -> int:
    first = data[0] if isinstance(data, list) and data else []
    return max(len(first), 1) if isinstance(first, list | dict) else 1


def _read_tensors(content: bytes, body: dict[str, Any], inputs: Sequence[Input]) -> Tensors:
    from serving.codecs.tensors import TensorsCodec

    # One row is the most that some graphs take, which is then no matter of shape.
    specs = []
    for each in inputs:
        shape = each.spec.shape if each.has_shape else [None] * _rank(body["inputs"], each.name)
        shape = [None, *shape[1:]] if shape[:1] == [1] else shape
        specs.append(each.spec.model_copy(update={"shape": shape}))
    return asyncio.run(_read(TensorsCodec, _provisional("tensors", specs, []), content))


def _rank(values: Any, name: str) -> int:
    value = values.get(name) if isinstance(values, dict) else None
    rank = 0
    while isinstance(value, list) and rank < _MOST_DIMENSIONS:
        rank += 1
        value = value[0] if value else None
    return rank


def _provisional(kind: Kind, specs: list[TensorSpec], features: list[str]) -> ModelMetadata:
    return ModelMetadata(
        format="onnx",
        kind=kind,
        inputs=specs,
        outputs=[TensorSpec(name="output", dtype="float32", shape=[None])],
        feature_names=features,
        batching="free" if kind == "rows" else "none",
        allow_nan=True,
        versions={},
        onnx_ir_version=1,
        onnx_opset=1,
    )


async def _read(codec: type[Codec[Any]], metadata: ModelMetadata, content: bytes) -> Any:
    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    stored = StoredModel(tag="sample", path=Path(), created_at="", metadata=metadata)
    return await codec(stored, ModelSettings(max_rows=_MOST_ROWS)).read(Request(scope, receive))
