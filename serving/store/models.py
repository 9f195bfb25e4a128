"""What the BentoML model store keeps beside a model's files, and how a stored model is opened.

Training writes `ModelMetadata`, serving reads it, so both sides use this module.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.core.errors import ModelError, ServingError
from serving.core.ranking import Activation
from serving.core.signature import ANY_LENGTH, Batching, Signature, TensorSpec
from serving.core.tensors import Tensors, from_bytes
from serving.settings.models import Kind
from serving.store.imported import imported_model

logger = logging.getLogger("serving.store.models")

Task = Literal["classification", "regression", "raw"]
"""What comes out of a model: scores of classes, numbers that are predicted, or tensors that only the caller knows."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class ImagePreprocessing(_Record):
    """How a picture becomes the input of a graph: after resizing, `(pixel * scale - mean) / deviation`.

    The defaults are what a graph takes that normalises by itself: uint8, RGB, `[N, height, width, 3]`, stretched.
    """

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    channels: Literal["RGB", "BGR", "L"] = Field("RGB", description="colour order; L is grey, one channel")
    resize: Literal["stretch", "crop"] = Field(
        "stretch",
        description="stretch ignores the aspect ratio, as Keras does; crop resizes the shortest side to `shortest` "
        "and cuts out the centre, as torchvision does",
    )
    shortest: int = Field(0, ge=0, description="pixels of the shortest side before the crop; 0: the crop's own")
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    scale: float = Field(1.0, description="factor of pixels from 0 to 255")
    mean: list[float] = Field([], description="of each channel, after scaling; empty: 0")
    deviation: list[float] = Field([], description="of each channel, after scaling; empty: 1")


class ModelMetadata(_Record):
    """The `metadata` of a model in the store: everything that serving has to know of a model.

    Models that were stored before there were kinds say less; `kind`, `task` and `scores` are then told by the tensors.
    """

    format: Literal["onnx", "tensorflow_savedmodel"]
    kind: Kind = "tensors"
    task: Task = "raw"
    scores: str = Field("", description="output that has the classes' scores, or the predictions of a regression")
    activation: Activation = Field("none", description="what makes probabilities of the scores")
    labels: list[str] = Field([], description="class names by class id; none unless it is a classification")
    label_output: str = Field("", description="output with the class of each row; empty: the most probable one is it")
    label_values: list[str] = Field([], description="what that output says for each class, by class id")
    multilabel: bool = Field(
        False, description="several classes may be right at once: each has a probability of its own"
    )
    feature_names: list[str] = Field([], description="names of the columns; none where every input is a column")
    inputs: list[TensorSpec] = Field(min_length=1)
    outputs: list[TensorSpec] = Field(min_length=1)
    batching: Batching = "free"
    allow_nan: bool = Field(False, description="NaN stands for a missing value")
    image: ImagePreprocessing | None = None
    weights: Weights | None = None
    metrics: dict[str, float] = {}
    verification: Verification | None = None
    versions: dict[str, str] = Field(description="Python and every library that made the model")
    files: dict[str, str] = Field({}, description="SHA-256 by path of the files that belong to the graph")
    onnx_ir_version: int | None = None
    onnx_opset: int | None = None
    seed: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _tell_kind_by_tensors(cls, values: Any) -> Any:
        """Fill in what a model says that was stored before there were kinds: a classifier of rows or of images."""
        if not isinstance(values, dict) or "kind" in values or values.get("format") != "onnx":
            return values
        first = TensorSpec.model_validate(values["inputs"][0])
        told: dict[str, Any] = {
            "task": "classification",
            "scores": TensorSpec.model_validate(values["outputs"][0]).name,
        }
        if first.dtype == "uint8" and len(first.shape) == 4:
            told |= {"kind": "image", "image": {"height": first.shape[1], "width": first.shape[2]}}
        elif first.dtype == "float32" and len(first.shape) == 2:
            told |= {"kind": "rows"}
        else:
            told = {}
        return told | values

    @model_validator(mode="after")
    def _is_complete(self) -> ModelMetadata:
        if self.format == "onnx" and (self.onnx_ir_version is None or self.onnx_opset is None):
            raise ValueError("an ONNX model needs onnx_ir_version and onnx_opset")
        if self.format == "onnx" and self.task != "raw" and all(spec.name != self.scores for spec in self.outputs):
            raise ValueError(f"scores: there is no output {self.scores!r}")
        if self.task == "classification" and not self.labels:
            raise ValueError("a classification needs labels")
        if self.label_output and all(spec.name != self.label_output for spec in self.outputs):
            raise ValueError(f"label_output: there is no output {self.label_output!r}")
        if self.kind == "image" and self.image is None:
            raise ValueError("a model of images needs image")
        return self

    @property
    def signature(self) -> Signature:
        return Signature(tuple(self.inputs), tuple(self.outputs), self.batching)

    @property
    def scores_spec(self) -> TensorSpec:
        """The output `scores`."""
        return next(spec for spec in self.outputs if spec.name == self.scores)

    def to_store(self) -> dict[str, Any]:
        """The `metadata` argument of `bentoml.models.create`; `model_validate` reads it back."""
        values = self.model_dump(mode="json", exclude_none=True)
        for tensor in (*values["inputs"], *values["outputs"]):
            tensor["shape"] = [ANY_LENGTH if length is None else length for length in tensor["shape"]]
        return values


ONNX_FILE = "model.onnx"
"""Name of the graph inside a stored ONNX model."""
MODEL_FILE = "model.yaml"
"""Name of the file with what BentoML and this project say of a stored model."""
SAMPLE_FILE = "sample.tensors"
"""Name of the file with inputs that the model has been tried with, in the form of `serving.core.tensors.to_bytes`."""
SAVED_MODEL_DIRECTORY = "saved_model"
"""Name of the directory inside a stored TensorFlow SavedModel; TensorFlow Serving wants `<base>/<version>/`."""


@dataclass(frozen=True)
class StoredModel:
    """A model of the store, found and read but not loaded."""

    tag: str
    path: Path
    created_at: str
    metadata: ModelMetadata

    @property
    def onnx_path(self) -> Path:
        return self.path / ONNX_FILE

    @property
    def origin(self) -> str:
        """The model and what made it, for messages."""
        made_with = self.metadata.versions.get("onnxruntime", "an unknown version")
        return (
            f"model {self.tag} (ONNX IR {self.metadata.onnx_ir_version}, opset {self.metadata.onnx_opset}, "
            f"verified with onnxruntime {made_with})"
        )

    @cached_property
    def sample(self) -> Tensors | None:
        """Inputs that the model has been tried with; `None` where none were stored.

        Raises:
            ModelError: the file cannot be read.
        """
        try:
            content = (self.path / SAMPLE_FILE).read_bytes()
        except FileNotFoundError:
            return None
        try:
            tensors = from_bytes(content)
            self.metadata.signature.check(tensors, allow_nan=self.metadata.allow_nan)
        except ServingError as error:
            raise ModelError(f"model {self.tag}: {SAMPLE_FILE}: {error.message}") from error
        return tensors


@cache
def open_model(tag: str) -> StoredModel:
    """Find `tag` in the BentoML model store and read its metadata, once in a process.

    Where a model of the same name was imported at the start, it is that one.

    Raises:
        ModelError: it is not there, or has no metadata of this project.
    """
    import bentoml  # a worker of jobs is told where its models are, and starts sooner without

    from serving.store.bentoml_store import UNREADABLE

    imported = imported_model(tag.partition(":")[0])
    try:
        stored = bentoml.Model.from_path(imported) if imported else bentoml.models.get(tag)
    except bentoml.exceptions.NotFound as error:
        raise ModelError(
            f"model {tag} is not in the model store; add it with `serving models add`, or make those that come "
            "with the project with `python -m train`"
        ) from error
    except UNREADABLE as error:
        raise ModelError(f"model {tag} cannot be read: {' '.join(str(error).split())}") from error
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
        raise ModelError(message + (" (server.strict_versions is on)" if locked is None else ""))
    logger.warning(message)
