"""Which models are served, as the standard protocols speak of them: names, versions, tensors, signatures.

**Versions.** The protocols count versions, BentoML names them (`iris:jajphpxfxkub2ax4`). A model's version here is the
time of its creation in whole seconds since 1970: an integer that grows with each training, that is the same on every
machine the model is copied to, and what TensorFlow's own exporters name their directories. The tag's version is a label
of it, so that both lead to the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError, NotFoundError
from serving.core.ranking import Probabilities
from serving.metrics.inference import Statistics
from serving.store.models import StoredModel, TensorSpec

Values = NDArray[Any] | Sequence[bytes]
"""What a model predicts: rows, pixels or image files."""
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_SIGNATURE = "classify"
PROBABILITIES = "probabilities"
LABEL = "label"
_LONGEST_NAME = 64


class Call(Protocol):
    """What a model wants to know of the request that asks for a prediction; `serving.http.request` has one for HTTP."""

    size: str
    """For the log, as `rows=3`; the model fills it in."""

    def expires_in(self) -> float:
        """Seconds after which the answer is of no use; infinite without a time limit."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model in TensorFlow Serving: a method, and the names of tensors in and out."""

    method: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's answer and the seconds that it took."""

    probabilities: Probabilities
    infer_seconds: float
    input_seconds: float = 0.0


def version_of(model: StoredModel) -> int:
    """The integer that the protocols know the stored model's version by."""
    return int(datetime.fromisoformat(model.created_at).timestamp())


class ServedModel(ABC):
    """One model that is served, whatever protocol asks.

    Attributes:
        name: as in the routes.
        version: see above; `tag` has the store's.
        version_labels: names of this version, the tag's among them.
        labels: class names by class id.
        inputs: alternatives, of which a request has exactly one. The dtype `bytes` is a string tensor.
        outputs: `probabilities` float32 `[N, classes]` and `label`, the most probable class as UTF-8.
        signatures: by name.
        most_rows: rows or images in one request.
        batched: whether requests wait for each other; otherwise iris rows are predicted at once, in the event loop.
        statistics: of the predictions that `predict` was asked for.
    """

    def __init__(
        self,
        name: str,
        stored: StoredModel,
        *,
        inputs: Sequence[TensorSpec],
        signatures: Mapping[str, Signature],
        version_labels: Sequence[str],
        most_rows: int,
        batched: bool,
        statistics: Statistics,
        ready: Callable[[], bool],
    ) -> None:
        self.name = name
        self.stored = stored
        self.tag = stored.tag
        self.version = version_of(stored)
        self.version_labels = (*version_labels, stored.tag.partition(":")[2])
        self.labels = stored.metadata.labels
        self.inputs = tuple(inputs)
        self.outputs = (*stored.metadata.outputs, LABEL_TENSOR)
        self.signatures = dict(signatures)
        self.most_rows = most_rows
        self.batched = batched
        self.statistics = statistics
        self._ready = ready

    @property
    def ready(self) -> bool:
        """Whether it answers: its runner is there, and the server is not draining."""
        return self._ready()

    async def predict(self, values: Values, call: Call) -> Probabilities:
        """Probabilities float32 `[N, classes]`, all finite.

        Cancelling it drops the work that has not begun.

        Args:
            values: as one of `inputs`; anything else is refused.

        Raises:
            InvalidInputError: shape, dtype, number or values are not what the model takes.
            InvalidImageError: an image cannot be decoded; its message begins with the place, `image[2]: `.
            OverloadedError, UnavailableError, DeadlineExceededError: as the model's other routes.
        """
        started = perf_counter()
        try:
            measured = await self._predict(values, call)
            probabilities = measured.probabilities
            self._check_finite(probabilities)
        except BaseException:
            self.statistics.failed(seconds=perf_counter() - started)
            raise
        self.statistics.succeeded(
            rows=len(probabilities),
            seconds=perf_counter() - started,
            infer_seconds=measured.infer_seconds,
            input_seconds=measured.input_seconds,
        )
        return probabilities

    @abstractmethod
    async def _predict(self, values: Values, call: Call) -> Measured:
        """`predict`, without the statistics."""

    def most_probable(self, probabilities: Probabilities) -> list[str]:
        """The label of each row."""
        return [self.labels[index] for index in probabilities.argmax(axis=1).tolist()]

    def _check_finite(self, probabilities: Probabilities) -> None:
        if not np.isfinite(probabilities).all():
            row = int(np.argmin(np.isfinite(probabilities).all(axis=1)))
            raise InvalidInputError(f"{self.inputs[0].name}[{row}]: the values are too large for this model")


LABEL_TENSOR = TensorSpec(name=LABEL, dtype="bytes", shape=[None])


class ServedModels:
    """All of them, in the order of the settings."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str, *, version: int | None = None, label: str | None = None) -> ServedModel:
        """The model of this name, and of this version or version label where one is asked for.

        Raises:
            NotFoundError: it is not served.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFoundError(f"there is no model {_short(name)}; served: {', '.join(self._models) or 'none'}")
        if version is not None and version != model.version:
            raise NotFoundError(f"model {name} has no version {version}; served: {model.version}")
        if label is not None and label not in model.version_labels:
            raise NotFoundError(
                f"model {name} has no version labelled {_short(label)}; there is {', '.join(model.version_labels)}"
            )
        return model

    def find(self, name: str, version: str = "") -> ServedModel:
        """As `get`, with a version as text: the number, or the tag's; empty for whichever is served.

        Raises:
            NotFoundError: it is not served.
        """
        model = self.get(name)
        if version in ("", str(model.version), model.tag.partition(":")[2]):
            return model
        raise NotFoundError(f"model {name} has no version {_short(version)}; served: {model.version}")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
