"""What the BentoML model store keeps beside a model's files, and how a stored model is opened.

Training writes `ModelMetadata`, serving reads it, so both sides use this module.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from serving.core.errors import ModelError
from serving.store.imported import imported_model

logger = logging.getLogger("serving.store.models")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# BentoML refuses None in the metadata of a model, so the store says -1.
_ANY_LENGTH = -1
Dimension = Annotated[int | None, BeforeValidator(lambda length: None if length == _ANY_LENGTH else length)]


class TensorSpec(_Record):
    """One input or output; `None` in `shape` is a dimension of any length."""

    name: str
    dtype: str
    shape: list[Dimension]


class Weights(_Record):
    """Where the weights come from. `trained` is false for random weights: such a model must say so."""

    origin: Literal["trained", "imagenet", "file", "random"]
    trained: bool
    description: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the training data or of the weights")


class Verification(_Record):
    """The exported graph against the original, on `inputs` fixed inputs."""

    inputs: int
    max_abs_difference: float
    tolerance: float


class ModelMetadata(_Record):
    """The `metadata` of a model in the store."""

    format: Literal["onnx", "tensorflow_savedmodel"]
    labels: list[str] = Field(min_length=1, description="class names by class id")
    feature_names: list[str] = []
    inputs: list[TensorSpec] = Field(min_length=1)
    outputs: list[TensorSpec] = Field(min_length=1)
    weights: Weights
    metrics: dict[str, float] = {}
    verification: Verification
    versions: dict[str, str] = Field(description="Python and every library that made the model")
    onnx_ir_version: int | None = None
    onnx_opset: int | None = None
    seed: int | None = None

    @model_validator(mode="after")
    def _onnx_says_its_versions(self) -> ModelMetadata:
        if self.format == "onnx" and (self.onnx_ir_version is None or self.onnx_opset is None):
            raise ValueError("an ONNX model needs onnx_ir_version and onnx_opset")
        return self

    def to_store(self) -> dict[str, Any]:
        """The `metadata` argument of `bentoml.models.create`; `model_validate` reads it back."""
        values = self.model_dump(mode="json", exclude_none=True)
        for tensor in (*values["inputs"], *values["outputs"]):
            tensor["shape"] = [_ANY_LENGTH if length is None else length for length in tensor["shape"]]
        return values


ONNX_FILE = "model.onnx"
"""Name of the graph inside a stored ONNX model."""
SAVED_MODEL_DIRECTORY = "saved_model"
"""Name of the directory inside a stored TensorFlow SavedModel; TensorFlow Serving wants `<base>/<version>/`."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of the store, found and read but not loaded."""

    tag: str
    path: Path
    created_at: str
    metadata: ModelMetadata

    @property
    def onnx_path(self) -> Path:
        return self.path / ONNX_FILE


@cache
def open_model(tag: str) -> StoredModel:
    """Find `tag` in the BentoML model store and read its metadata, once in a process.

    Where a model of the same name was imported at the start, it is that one.

    Raises:
        ModelError: it is not there, or was not saved by this project's training scripts.
    """
    import bentoml  # a worker of jobs is told where its models are, and starts sooner without

    imported = imported_model(tag.partition(":")[0])
    try:
        stored = bentoml.Model.from_path(imported) if imported else bentoml.models.get(tag)
    except bentoml.exceptions.NotFound as error:
        raise ModelError(
            f"model {tag} is not in the model store; make what is missing with `python -m train`"
        ) from error
    try:
        metadata = ModelMetadata.model_validate(stored.info.metadata)
    except ValidationError as error:
        raise ModelError(f"model {stored.tag} has metadata that cannot be served: {error}") from error
    return StoredModel(
        tag=str(stored.tag),
        path=Path(stored.path),
        created_at=stored.info.creation_time.isoformat(timespec="seconds"),
        metadata=metadata,
    )


def installed_version(library: str) -> str | None:
    """Version of an installed distribution, `None` when it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _major_minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def check_versions(model: StoredModel, *, strict: bool, locked: Mapping[str, str] | None = None) -> None:
    """Compare the libraries that made the model with those installed, or with those that are `locked` for a Bento.

    Libraries that are not there (training only) are not compared; a different major.minor of the
    others is a warning, or an error when `strict`. Whether ONNX Runtime reads the model's format is not judged
    here: loading it does, and says which formats it knows.

    Raises:
        ModelError: names the model and both versions.
    """
    differences = [
        f"{library} {made_with} made it, {here} is {'installed' if locked is None else 'in requirements/serve.lock'}"
        for library, made_with in sorted(model.metadata.versions.items())
        if (here := installed_version(library) if locked is None else locked.get(library))
        and _major_minor(here) != _major_minor(made_with)
    ]
    if not differences:
        return
    message = f"model {model.tag}: " + "; ".join(differences)
    if strict:
        raise ModelError(message + (" (serving.strict_versions is on)" if locked is None else ""))
    logger.warning(message)
