"""What a worker does for one model: from a payload to the answer. And what the API does before: from a request to a
payload.

A payload is the plain bytes that a prediction needs and the parameters are JSON. Nothing is pickled, so the content of
a store can do no harm beyond a wrong prediction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import msgspec

from serving.codecs.base import Codec
from serving.codecs.opening import open_codec
from serving.core.engine import Engine, available_cores
from serving.core.errors import ConfigurationError, InvalidInputError, MalformedRequestError, ServingError
from serving.core.halving import run_in_halves
from serving.core.tensors import Tensors, count, join, split
from serving.jobs.job import Claimed
from serving.placement import open_engine
from serving.settings import Settings
from serving.store.models import StoredModel


class Encoded(NamedTuple):
    """What a store keeps of a request: `payload` and `parameters` of a NewJob."""

    payload: bytes
    parameters: str


def encode(codec: Codec[Any], request: Any) -> Encoded:
    """What a store keeps of a request that `codec` has read."""
    payload, parameters = codec.dump(request)
    return Encoded(payload, msgspec.json.encode(parameters).decode())


def fingerprint(model: str, encoded: Encoded) -> str:
    """SHA-256 in hexadecimal of everything that the answer depends on: equal for equal requests only."""
    digest = hashlib.sha256()
    for part in (model.encode(), encoded.parameters.encode(), encoded.payload):
        # With its length, so that no two different requests make the same sequence of bytes.
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


class Prepared(NamedTuple):
    """A job's input after decoding.

    Attributes:
        request: as the codec has read it.
        tensors: what the engine takes.
        rows: how much of a batch it takes up; 1 for tensors that have no rows in common.
    """

    request: Any
    tensors: Tensors
    rows: int = 1


Answer = bytes | ServingError
"""The body that `/predict` would have answered, or what is wrong with this one job."""


class Work(Protocol):
    """What a worker does for one model. All methods block; the worker calls them in threads.

    Attributes:
        max_batch_rows: most rows in one `run`, unless a single job has more.
        decode_threads: how many payloads are decoded at a time.
    """

    max_batch_rows: int
    decode_threads: int

    def open(self) -> None:
        """Load the engine; called once, before the first `run`."""

    def prepare(self, claimed: Claimed) -> Prepared:
        """Decode a payload. Called in several threads at once.

        Raises:
            ServingError: the payload or the parameters cannot be used.
        """

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        """The answers to a batch. When it raises, the caller tries again in halves, down to the job that causes it."""


class ModelWork:
    """The work of any model: its codec decodes payloads and writes answers, its engine computes between them.

    Args:
        open_engine: loads the engine.
    """

    def __init__(self, codec: Codec[Any], open_engine: Callable[[], Engine]) -> None:
        self.max_batch_rows = codec.limits.max_batch_rows
        # Only pre-processing that takes milliseconds is worth several threads.
        self.decode_threads = (codec.settings.image.decode_threads or available_cores()) if codec.slow else 1
        self._codec = codec
        self._has_rows = codec.signature.has_rows
        self._open_engine = open_engine

    def open(self) -> None:
        self._engine = self._open_engine()
        self._engine.warm_up(self._codec.stored.sample)
        if self._codec.slow:
            # The first call of a process loads what decodes.
            self._codec.tensors(self._codec.sample())

    def prepare(self, claimed: Claimed) -> Prepared:
        request = self._codec.load(claimed.payload, _read_parameters(claimed.parameters))
        tensors, _ = self._codec.tensors(request)
        return Prepared(request, tensors, count(tensors) if self._has_rows else 1)

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        """One engine call for all jobs whose rows have equal shapes, one for each job where tensors have no rows."""
        answers: list[Answer] = []
        # Neighbours only: the order of the jobs stays.
        for _, group in groupby(enumerate(batch), lambda item: self._shape(*item)):
            answers += run_in_halves([prepared for _, prepared in group], self._run_together, InvalidInputError)
        return answers

    def _shape(self, index: int, prepared: Prepared) -> object:
        """Equal for jobs that can share a call."""
        if not self._has_rows:
            return index
        return [(name, prepared.tensors[name].shape[1:]) for name in sorted(prepared.tensors)]

    def _run_together(self, batch: Sequence[Prepared]) -> list[Answer]:
        outputs = self._engine.run(join([prepared.tensors for prepared in batch]))
        if not self._has_rows:
            return [self._answer(outputs, batch[0])]
        sizes = [prepared.rows for prepared in batch]
        if any(len(array) != sum(sizes) for array in outputs.values()):
            # Nobody can tell whose rows are missing, so no job may be given any of these.
            raise RuntimeError(f"the engine's answer to {sum(sizes)} rows has another number of rows")
        return [self._answer(part, prepared) for part, prepared in zip(split(outputs, sizes), batch, strict=True)]

    def _answer(self, outputs: Tensors, prepared: Prepared) -> Answer:
        try:
            return self._codec.answer(outputs, prepared.request)
        except ServingError as error:
            return error


def open_work(name: str, stored: StoredModel, settings: Settings) -> ModelWork:
    """The work of a model by its name in the settings; its engine is not loaded yet.

    Raises:
        ConfigurationError: there is no such model.
        ModelError: the entry or its plug-in does not fit the stored model.
    """
    entry = settings.models.get(name)
    if entry is None:
        raise ConfigurationError(f"there is no model {name} below models; there is {', '.join(settings.models)}")
    return ModelWork(open_codec(stored, entry), partial(open_engine, stored, entry))


def _read_parameters(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise MalformedRequestError("the parameters of the job are not a JSON object") from error
