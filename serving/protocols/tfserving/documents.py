"""What TensorFlow Serving's REST API says of models, in its JSON form of protobuf, and its schemas for `/docs.json`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serving.protocols.served_models import ServedModel, Signature
from serving.store.models import TensorSpec

_DTYPES = {"float32": "DT_FLOAT", "uint8": "DT_UINT8", "bytes": "DT_STRING"}


class Predictions(BaseModel):
    """`predictions` for `instances`, `outputs` for `inputs`: a row of probabilities or a label for each."""

    model_config = ConfigDict(extra="forbid")

    predictions: list[Any] = []
    outputs: list[Any] = []


class Classifications(BaseModel):
    """For each example the labels of all classes with their scores."""

    results: list[list[list[Any]]]


class VersionStatus(BaseModel):
    version: str = Field(description="when the version was made, in seconds since 1970")
    state: str
    status: dict[str, str]


class ModelStatus(BaseModel):
    """The version that is served."""

    model_version_status: list[VersionStatus]


class ModelMetadata(BaseModel):
    """Signatures by name."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]


_VALUE = {"type": ["number", "string", "array", "object"]}
PREDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": 'Either `instances` or `inputs`. A string is text or `{"b64": "<base64>"}`.',
    "properties": {
        "signature_name": {"type": "string", "default": "serving_default"},
        "instances": {
            "type": "array",
            "description": "rows: values of the one input, or objects with its name",
            "items": _VALUE,
        },
        "inputs": {
            "type": ["array", "object"],
            "description": "columns: values of the one input, or an object with its name",
        },
    },
}
CLASSIFY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "signature_name": {"type": "string", "default": "classify"},
        "context": {"type": "object", "description": "features that all examples share"},
        "examples": {
            "type": "array",
            "minItems": 1,
            "description": "features by name: the model's input, or its columns one by one",
            "items": {"type": "object"},
        },
    },
}


def describe_status(model: ServedModel) -> dict[str, Any]:
    """`GetModelStatusResponse`. A model whose runner is away is loading."""
    return {
        "model_version_status": [
            {
                "version": str(model.version),
                "state": "AVAILABLE" if model.ready else "LOADING",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def describe_model(model: ServedModel) -> dict[str, Any]:
    """`GetModelMetadataResponse`."""
    signatures = {name: _describe(name, signature) for name, signature in model.signatures.items()}
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _describe(name: str, signature: Signature) -> dict[str, Any]:
    def tensors(specs: tuple[TensorSpec, ...]) -> dict[str, Any]:
        return {
            spec.name: {
                "dtype": _DTYPES[spec.dtype],
                "tensor_shape": {
                    "dim": [{"size": str(-1 if length is None else length), "name": ""} for length in spec.shape],
                    "unknown_rank": False,
                },
                "name": f"{name}_{spec.name}:0",
            }
            for spec in specs
        }

    return {
        "inputs": tensors(signature.inputs),
        "outputs": tensors(signature.outputs),
        "method_name": signature.method,
        "defaults": {},
    }
