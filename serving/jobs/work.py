"""What the jobs of each model are about: from a request to a payload, and from a payload to the answer.

A payload is the plain bytes that a prediction needs and the parameters are JSON: nothing is pickled, so what stands
in a store can do no harm beyond a wrong prediction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.codecs.image_decoding import load_image, sample_image
from serving.core.errors import ConfigurationError, InvalidInputError, MalformedRequestError, ServingError
from serving.core.ranking import check_top_k, image_answer, iris_answer
from serving.engines import IrisEngine, open_inception_v3
from serving.engines.inception_v3 import IMAGE_SHAPE
from serving.engines.iris import FEATURES
from serving.jobs.job import Claimed
from serving.settings import Settings
from serving.settings.models import InceptionV3Settings, IrisSettings
from serving.store.models import StoredModel

_ROWS_DTYPE = np.dtype("<f4")


class Encoded(NamedTuple):
    """What a store keeps of a request: `payload` and `parameters` of a NewJob."""

    payload: bytes
    parameters: str


def encode_rows(rows: NDArray[np.float32]) -> Encoded:
    """Rows of iris features, float32 `[N, 4]`."""
    return Encoded(np.ascontiguousarray(rows, _ROWS_DTYPE).tobytes(), "{}")


def encode_image(content: bytes, *, top_k: int) -> Encoded:
    """An image file and how many classes to name."""
    return Encoded(content, _parameters({"top_k": top_k}))


def fingerprint(model: str, encoded: Encoded) -> str:
    """SHA-256 in hexadecimal of everything that the answer depends on: equal for equal requests only."""
    digest = hashlib.sha256()
    for part in (model.encode(), encoded.parameters.encode(), encoded.payload):
        # With its length, so that no two different requests make the same sequence of bytes.
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job's input as its engine takes it: `rows` `[N, …]`, N ≥ 1, and the parameters."""

    rows: NDArray[Any]
    parameters: dict[str, Any]


Answer = bytes | ServingError
"""The body that `/predict` would have answered, or what is wrong with this one job."""


class Work(Protocol):
    """What a worker does for one model. All methods block; the worker calls them in threads."""

    max_batch_rows: int

    def open(self) -> None:
        """Load the engine; called once, before the first `run`."""

    def prepare(self, claimed: Claimed) -> Prepared:
        """Decode a payload. Called in several threads at once.

        Raises:
            ServingError: the payload or the parameters cannot be used.
        """

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        """One engine call for the batch. What it raises is tried again in halves, down to the job that causes it."""


class IrisWork:
    """Payload: rows as little-endian float32, `[N, 4]`. No parameters."""

    def __init__(self, model: StoredModel, settings: IrisSettings) -> None:
        self.max_batch_rows = settings.batching.max_batch_rows
        self._model = model
        self._threads = settings.threads

    def open(self) -> None:
        self._engine = IrisEngine(self._model, threads=self._threads)
        self._engine.warm_up()

    def prepare(self, claimed: Claimed) -> Prepared:
        row_bytes = FEATURES * _ROWS_DTYPE.itemsize
        if not claimed.payload or len(claimed.payload) % row_bytes:
            raise InvalidInputError("the payload of the job is not rows of float32")
        rows = np.frombuffer(claimed.payload, _ROWS_DTYPE).reshape(-1, FEATURES)
        return Prepared(rows, _read_parameters(claimed.parameters))

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        probabilities = self._engine.predict(_together(batch))
        answers: list[Answer] = []
        start = 0
        for prepared in batch:
            stop = start + len(prepared.rows)
            try:
                answers.append(iris_answer(probabilities[start:stop]))
            except InvalidInputError as error:
                answers.append(error)
            start = stop
        return answers


class ImageWork:
    """Payload: an image file. Parameters: `top_k`."""

    def __init__(self, model: StoredModel, settings: InceptionV3Settings) -> None:
        self.max_batch_rows = settings.batching.max_batch_rows
        self._model = model
        self._labels = model.metadata.labels
        self._settings = settings
        self._formats = frozenset(settings.image.allowed_formats)

    def open(self) -> None:
        self._engine = open_inception_v3(
            self._model,
            engine=self._settings.engine,
            threads=self._settings.threads,
            providers=self._settings.providers,
            openvino_precision=self._settings.openvino_precision,
        )
        self._engine.warm_up()
        self._load(sample_image())  # the first one of a process loads Pillow's decoders

    def prepare(self, claimed: Claimed) -> Prepared:
        parameters = _read_parameters(claimed.parameters)
        top_k = parameters.get("top_k")
        if type(top_k) is not int or top_k < 1:
            raise InvalidInputError("top_k: a whole number of at least 1 is required")
        check_top_k(top_k, self._labels)
        return Prepared(self._load(claimed.payload), parameters)

    def _load(self, content: bytes) -> NDArray[np.uint8]:
        image = load_image(content, formats=self._formats, max_pixels=self._settings.image.max_image_pixels)
        return image.array.reshape(1, *IMAGE_SHAPE)

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        probabilities = self._engine.predict(_together(batch))
        return [
            image_answer(row, self._labels, prepared.parameters["top_k"])
            for row, prepared in zip(probabilities, batch, strict=True)
        ]


def open_work(name: str, model: StoredModel, settings: Settings) -> Work:
    """The work of a model by its name in the settings; its engine is not loaded yet.

    Raises:
        ConfigurationError: there is no such model.
    """
    if name == "iris":
        return IrisWork(model, settings.iris)
    if name == "inception_v3":
        return ImageWork(model, settings.inception_v3)
    raise ConfigurationError(f"there is no model {name}")


def _together(batch: Sequence[Prepared]) -> NDArray[Any]:
    return batch[0].rows if len(batch) == 1 else np.concatenate([prepared.rows for prepared in batch])


def _parameters(values: dict[str, Any]) -> str:
    return msgspec.json.encode(values).decode()


def _read_parameters(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise MalformedRequestError("the parameters of the job are not a JSON object") from error
