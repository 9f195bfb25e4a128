"""What the Open Inference Protocol says of the server and of models, and its schemas for `/docs.json`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import serving
from serving.metrics.inference import Sums
from serving.protocols.open_inference.request import DATATYPES
from serving.protocols.served_models import ServedModel
from serving.store.models import TensorSpec

EXTENSIONS = ["binary_tensor_data", "classification", "model_repository", "statistics"]
NAME = "model_serving"
PLATFORM = "onnx_onnxv1"
"""What the protocol calls a model in ONNX."""
_DATATYPES = list(DATATYPES.values())


class _Extensible(BaseModel):
    """Extensions may have more than is listed."""

    model_config = ConfigDict(extra="allow")


class InferenceServer(BaseModel):
    """This server."""

    name: str
    version: str
    extensions: list[str]


class InferenceTensorMetadata(BaseModel):
    name: str
    datatype: str = Field(description="`FP32`, `UINT8` or `BYTES`")
    shape: list[int] = Field(description="-1 is a dimension of any length")


class InferenceModel(BaseModel):
    """A model. Of several inputs a request has exactly one."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[InferenceTensorMetadata]
    outputs: list[InferenceTensorMetadata]


class InferenceLive(BaseModel):
    live: bool


class InferenceReady(BaseModel):
    ready: bool


class InferenceModelReady(BaseModel):
    name: str
    ready: bool


class InferenceIndexEntry(BaseModel):
    """A model of the repository."""

    name: str
    version: str
    state: str
    reason: str


class InferenceOutput(_Extensible):
    name: str
    shape: list[int]
    datatype: str


class InferenceResponse(_Extensible):
    """The outputs in the order of the request. With binary data it is followed by that."""

    model_name: str
    model_version: str
    outputs: list[InferenceOutput]


class InferenceStatistics(BaseModel):
    """Of the models that were asked for, as Triton's statistics extension has them."""

    model_stats: list[dict[str, Any]]


_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "comes back in the answer"},
        "parameters": {**_PARAMETERS, "description": "`binary_data_output` and `classification`, for all outputs"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    "datatype": {"type": "string", "enum": _DATATYPES},
                    "parameters": {**_PARAMETERS, "description": "`binary_data_size`, instead of `data`"},
                    "data": {"type": "array", "description": "row-major, flat or nested as the shape"},
                },
            },
        },
        "outputs": {
            "type": "array",
            "description": "those that are wanted, in this order; all when left out",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "parameters": {**_PARAMETERS, "description": "`binary_data` and `classification`"},
                },
            },
        },
    },
}


def describe_server() -> dict[str, Any]:
    return {"name": NAME, "version": serving.__version__, "extensions": EXTENSIONS}


def describe_model(model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": PLATFORM,
        "inputs": [_describe_tensor(spec) for spec in model.inputs],
        "outputs": [_describe_tensor(spec) for spec in model.outputs],
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if length is None else length for length in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def index_entry(model: ServedModel) -> dict[str, Any]:
    """One of the repository index."""
    state, reason = ("READY", "") if model.ready else ("UNAVAILABLE", "its runner is away, or the server is stopping")
    return {"name": model.name, "version": str(model.version), "state": state, "reason": reason}


def describe_statistics(model: ServedModel, sums: Sums) -> dict[str, Any]:
    """One model's; durations in nanoseconds.

    The wait in a runner's queue is part of `compute_infer`. Nothing is cached, and encoding is not measured.
    """

    def duration(count: int = 0, seconds: float = 0.0) -> dict[str, int]:
        return {"count": count, "ns": int(seconds * 1e9)}

    return {
        "name": model.name,
        "version": str(model.version),
        "last_inference": int(sums.last * 1e3),
        "inference_count": sums.rows,
        "execution_count": sums.executions,
        "inference_stats": {
            "success": duration(sums.successes, sums.success_seconds),
            "fail": duration(sums.failures, sums.failure_seconds),
            "queue": duration(),
            "compute_input": duration(sums.successes, sums.input_seconds),
            "compute_infer": duration(sums.successes, sums.infer_seconds),
            "compute_output": duration(),
            "cache_hit": duration(),
            "cache_miss": duration(),
        },
        "batch_stats": [],
    }
