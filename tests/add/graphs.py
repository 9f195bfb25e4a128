"""Graphs as people have them, and asking the models that `add` makes of them."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from starlette.requests import Request

from serving.add.add import Added, add_model
from serving.add.options import AddOptions
from serving.codecs.opening import open_codec
from serving.core.tensors import Tensors
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel, open_model

OPSETS = {"": 18, "ai.onnx.ml": 3}
Shape = Sequence[int | str | None] | None


def info(name: str, kind: int, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def floats(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return info(name, TensorProto.FLOAT, shape)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    values: dict[str, NDArray[Any]] | None = None,
    *,
    ir_version: int = 8,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in (values or {}).items()]
    body = helper.make_graph(nodes, "graph", inputs, outputs, arrays)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(body, ir_version=ir_version, opset_imports=opsets)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, **attributes)


def from_sklearn(model: Any, **options: Any) -> onnx.ModelProto:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(model, target_opset=OPSETS, **options)


def save(proto: onnx.ModelProto, directory: Path, name: str = "model.onnx") -> Path:
    path = directory / name
    path.write_bytes(proto.SerializeToString())
    return path


def add(proto: onnx.ModelProto, directory: Path, **options: Any) -> tuple[Added, StoredModel]:
    """Add a graph; the model that is in the store then."""
    added = add_model(save(proto, directory), AddOptions(name=options.pop("name", "tried"), **options))
    return added, open_model(added.tag)


def run(proto: onnx.ModelProto, tensors: Tensors) -> Tensors:
    """What ONNX Runtime gives for the graph as it was."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, tensors), strict=True))


class Asked:
    """A stored model, asked as the service asks it."""

    def __init__(self, stored: StoredModel, **settings: Any) -> None:
        entry = ModelSettings(**settings)
        self.codec = open_codec(stored, entry)
        self.engine = open_engine(stored, entry)

    def outputs(self, body: dict[str, Any]) -> tuple[Any, Tensors]:
        request = asyncio.run(_read(self.codec, json.dumps(body).encode()))
        tensors, _ = self.codec.tensors(request)
        return request, self.engine.run(tensors)

    def predict(self, body: dict[str, Any]) -> Any:
        request, outputs = self.outputs(body)
        return json.loads(self.codec.answer(outputs, request))

    def label(self, body: dict[str, Any]) -> Any:
        request, outputs = self.outputs(body)
        return json.loads(self.codec.label(outputs, request))["prediction"]


async def _read(codec: Any, body: bytes) -> Any:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    scope["headers"] = [(b"content-type", b"application/json")]  # type: ignore[assignment]
    return await codec.read(Request(scope, receive))
