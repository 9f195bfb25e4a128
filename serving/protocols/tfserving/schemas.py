"""TensorFlow Serving's API in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Predictions(BaseModel):
    """`predictions` for `instances`, `outputs` for `inputs`.

    Of a signature with one output they are its values, of one with several outputs objects by name.
    """

    model_config = ConfigDict(extra="forbid")

    # Factories: with plain defaults, generated clients would believe that both are always there.
    predictions: list[Any] = Field(default_factory=list)
    outputs: Any = Field(default_factory=dict)


class Classifications(BaseModel):
    """For each example the labels of all classes with their scores."""

    results: list[list[list[Any]]]


class VersionStatus(BaseModel):
    version: str = Field(description="when the version was made, in seconds since 1970")
    state: str
    status: dict[str, str]


class ModelStatus(BaseModel):
    """The version that is served; `name` and `ready` are KServe's."""

    model_version_status: list[VersionStatus]
    name: str
    ready: bool


class ModelNames(BaseModel):
    """As KServe lists them."""

    models: list[str]


class ModelMetadata(BaseModel):
    """Signatures by name."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]


_VALUE = {"type": ["number", "string", "boolean", "array", "object"], "items": {}, "additionalProperties": True}
_FEATURES = {"type": "object", "additionalProperties": True}
PREDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": 'Either `instances` or `inputs`. A string is text or `{"b64": "<base64>"}`.',
    "properties": {
        "signature_name": {"type": "string", "default": "serving_default"},
        "instances": {
            "type": "array",
            "description": "rows: values of the one input, or objects with all inputs by name",
            "items": _VALUE,
        },
        "inputs": {
            "type": ["array", "object"],
            "items": {},
            "additionalProperties": True,
            "description": "columns: values of the one input, or an object with all inputs by name",
        },
    },
}
CLASSIFY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "signature_name": {"type": "string", "default": "classify"},
        "context": {**_FEATURES, "description": "features that all examples share"},
        "examples": {
            "type": "array",
            "minItems": 1,
            "description": "features by name: the model's input, or its columns one by one",
            "items": _FEATURES,
        },
    },
}
VERSION_PARAMETER = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "as the model's status has it, or a number of its `version_labels`; 0 and -1 are the latest",
    "schema": {"type": "string", "pattern": "^-?[0-9]{1,19}$"},
}
LABEL_PARAMETER = {
    "name": "label",
    "in": "path",
    "required": True,
    "description": "one of the model's `version_labels`, or the version of its tag",
    "schema": {"type": "string"},
}
