"""What `/{model}/metadata` says."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field

from serving.core.signature import TensorSpec
from serving.model import Model
from serving.store.models import ImagePreprocessing, Verification


class ModelDescription(BaseModel):
    """What is being served, and where it comes from."""

    tag: str = Field(description="name and version in the model store")
    version: str
    created_at: str
    kind: str = Field(description="what a request is: `rows`, `image` or `tensors`")
    task: str = Field(description="what comes out: `classification`, `regression` or `raw` tensors")
    weights: str = Field(description="`trained`, `imagenet`, `file` or `random`; empty where it is not known")
    trained: bool | None = Field(
        description="false for random weights: the answers mean nothing; null where it is not known"
    )
    weights_description: str
    weights_sha256: str = Field(description="of the training data or of the weights")
    classes: int
    feature_names: list[str]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    image: ImagePreprocessing | None = Field(description="how a picture becomes the input; null unless it is one")
    metrics: dict[str, float]
    verification: Verification | None = Field(description="the exported graph against the original model")
    library_versions: dict[str, str] = Field(description="Python and the libraries that made the model")
    sample_request: dict[str, Any]
    sample_response: dict[str, Any]
    data_type: str = Field(description="dtype of the input; `mixed` for several")
    data_structure: str = Field(description="its shape for one row, as `(1,4)`")
    data_sample: Any
    prediction_type: str = Field(description="dtype of what is predicted; `mixed` for several tensors")
    prediction_structure: str = Field(description="its shape for one row, as `(1,3)`")
    prediction_sample: Any
    name: str = Field(description="as in the routes")
    scores: str = Field(description="output with the scores of classes or the predicted numbers; empty for raw tensors")
    protocol_inputs: list[TensorSpec] = Field(
        description="what the standard protocols take; elements of the dtype `bytes` are files"
    )


def interface(model: Model) -> dict[str, Any]:
    """What a client has to know of `model` to ask it and to read its answers, as JSON.

    It is part of the metadata. Over gRPC, where there is no such route, the model's configuration has it.
    """
    metadata = model.metadata
    return {
        "name": model.name,
        "kind": metadata.kind,
        "task": metadata.task,
        "scores": metadata.scores,
        "classes": len(metadata.labels),
        "feature_names": metadata.feature_names,
        "inputs": [spec.model_dump() for spec in metadata.inputs],
        "outputs": [spec.model_dump() for spec in metadata.outputs],
        "protocol_inputs": [spec.model_dump() for spec in model.codec.offered()[0]],
    }


def describe(model: Model, answer: bytes) -> ModelDescription:
    """The answer of `/{model}/metadata`.

    Args:
        answer: body of the prediction for the built-in sample.
    """
    metadata = model.metadata
    weights = metadata.weights
    request, response = model.codec.sample_json(), json.loads(answer)
    predicted = [spec for spec in metadata.outputs if spec.name == metadata.scores] or metadata.outputs
    return ModelDescription(
        **interface(model),
        tag=model.tag,
        version=model.tag.partition(":")[2],
        created_at=model.stored.created_at,
        weights=weights.origin if weights else "",
        trained=weights.trained if weights else None,
        weights_description=weights.description if weights else "",
        weights_sha256=weights.sha256 if weights else "",
        image=metadata.image,
        metrics=metadata.metrics,
        verification=metadata.verification,
        library_versions=metadata.versions,
        sample_request=request,
        sample_response=response,
        data_type=_dtype(metadata.inputs),
        data_structure=_structure(metadata.inputs),
        data_sample=next(iter(request.values())),
        prediction_type=_dtype(predicted),
        prediction_structure=_structure(predicted),
        prediction_sample=next(iter(response.values())),
    )


def _dtype(specs: list[TensorSpec]) -> str:
    found = {spec.dtype for spec in specs}
    return found.pop() if len(found) == 1 else "mixed"


def _structure(specs: list[TensorSpec]) -> str:
    """`(1,4)`; of several tensors one after the other."""
    shapes = (",".join(str(1 if length is None else length) for length in spec.shape) for spec in specs)
    return ", ".join(f"({shape})" for shape in shapes)
