"""What `/{model}/metadata` says."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from serving.store.models import StoredModel, TensorSpec, Verification


class ModelDescription(BaseModel):
    """What is being served, and where it comes from."""

    tag: str = Field(description="name and version in the model store")
    version: str
    created_at: str
    weights: str = Field(description="`trained`, `imagenet`, `file` or `random`")
    trained: bool = Field(description="false for random weights: the answers mean nothing")
    weights_description: str
    weights_sha256: str = Field(description="of the training data or of the weights")
    classes: int
    feature_names: list[str]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    metrics: dict[str, float]
    verification: Verification = Field(description="the exported graph against the original model")
    library_versions: dict[str, str] = Field(description="Python and the libraries that made the model")
    sample_request: dict[str, Any]
    sample_response: dict[str, Any]


def describe(
    model: StoredModel, *, sample_request: dict[str, Any], sample_response: dict[str, Any]
) -> ModelDescription:
    """The answer of `/{model}/metadata`."""
    metadata = model.metadata
    return ModelDescription(
        tag=model.tag,
        version=model.tag.partition(":")[2],
        created_at=model.created_at,
        weights=metadata.weights.origin,
        trained=metadata.weights.trained,
        weights_description=metadata.weights.description,
        weights_sha256=metadata.weights.sha256,
        classes=len(metadata.labels),
        feature_names=metadata.feature_names,
        inputs=metadata.inputs,
        outputs=metadata.outputs,
        metrics=metadata.metrics,
        verification=metadata.verification,
        library_versions=metadata.versions,
        sample_request=sample_request,
        sample_response=sample_response,
    )
