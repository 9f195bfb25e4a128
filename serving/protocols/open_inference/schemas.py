"""The Open Inference Protocol in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serving.core.tensors import DTYPES


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
    datatype: str = Field(description="`FP32`, `INT64`, `BYTES` and so on")
    shape: list[int] = Field(description="-1 is a dimension of any length")


class InferenceModel(BaseModel):
    """A model. All inputs are required."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[InferenceTensorMetadata]
    outputs: list[InferenceTensorMetadata]


class InferenceConfigTensor(BaseModel):
    name: str
    data_type: str = Field(description="`TYPE_FP32`, `TYPE_INT64`, `TYPE_STRING` and so on")
    dims: list[int] = Field(description="without the dimension of the batch; -1 is a dimension of any length")


class InferenceModelConfig(_Extensible):
    """A model's configuration in Triton's form."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="most rows in a request; 0 where requests have no rows")
    input: list[InferenceConfigTensor]
    output: list[InferenceConfigTensor]


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
    # Factories: with plain defaults, generated clients would believe that they are always there.
    data: list[Any] = Field(default_factory=list, description="row-major and flat; not there with binary data")
    parameters: dict[str, Any] = Field(default_factory=dict, description="`binary_data_size` with binary data")


class InferenceResponse(_Extensible):
    """The outputs in the order of the request. With binary data it is followed by that."""

    model_name: str
    model_version: str
    id: str = Field(default_factory=str, description="that of the request, where it has one")
    outputs: list[InferenceOutput]


class InferenceStatistics(BaseModel):
    """Of the models that were asked for, as Triton's statistics extension has them."""

    model_stats: list[dict[str, Any]]


_DATATYPES = list(dict.fromkeys(dtype.open_inference for dtype in DTYPES.values()))
_PARAMETERS = {"type": ["object", "null"], "additionalProperties": True}
REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"], "description": "comes back in the answer"},
        "parameters": {**_PARAMETERS, "description": "`binary_data_output` and `classification`, for all outputs"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "description": "all inputs of the model's metadata, or of one of its alternatives",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "datatype": {"type": "string", "enum": _DATATYPES},
                    "parameters": {**_PARAMETERS, "description": "`binary_data_size`, instead of `data`"},
                    "data": {"type": "array", "items": {}, "description": "row-major, flat or nested as the shape"},
                },
            },
        },
        "outputs": {
            "type": ["array", "null"],
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
BINARY = {"schema": {"type": "string", "format": "binary", "description": "JSON, and binary data after it."}}
VERSION_PARAMETER = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "as the model's metadata has it, the version of its tag or a label of it; 0 and -1 are the latest",
    "schema": {"type": "string"},
}
LENGTH_PARAMETER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Length of the JSON, when binary data follows it.",
    "schema": {"type": "integer", "minimum": 1},
}
