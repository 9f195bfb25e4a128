"""The contract of a codec: the meaning of the requests to one model and of its answers.

Three ship, one for each kind of model (`rows`, `image`, `tensors`). A plug-in is a subclass of one of them that
overrides what differs; its entry in configuration.yaml names it:

```python
class TwoTowers(TensorsCodec):
    # Answers one score instead of two vectors.
    def answer(self, outputs, request):
        scores = (outputs["user"] * outputs["item"]).sum(axis=1)
        return encode({"scores": scores.tolist()})
```

Every way to a model uses the same methods, so that the same input gives the same prediction: the routes of the service,
jobs (`dump` and `load`), rows of a database (`read_row` and `row_answers`) and the standard protocols (`offered`,
`from_offered` and `protocol_outputs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from starlette.requests import Request

from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError
from serving.core.signature import TensorSpec
from serving.core.tensors import STRING, Tensors, check_finite, count, strings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

R = TypeVar("R")
encode = msgspec.json.encode


def encode_python(value: Any) -> bytes:
    """Python values as JSON; what has `tolist`, such as NumPy's arrays and numbers, becomes what that gives."""
    return encode(value, enc_hook=lambda each: each.tolist())


LABEL = "label"
LABEL_SPEC = TensorSpec(name=LABEL, dtype=STRING, shape=[None])
"""What the standard protocols answer beside the outputs of a classifier: the most probable class of each row."""


class Files(Protocol):
    """The files that rows of a database may name."""

    def read(self, text: str) -> bytes:
        """The content of the file that the JSON of a row's values names; raises InvalidInputError."""


class RowAnswers(NamedTuple):
    """What is written beside rows of a database: for each row an element of each list.

    Lists and not an object for each row, which would take longer than all the rest of scoring a small row.
    """

    predictions: list[str | None]
    """JSON; `None` where there is an error."""
    labels: list[str | None]
    """The most probable class; `None` where there are no classes, or an error."""
    errors: list[str | None]
    """Why the row has no prediction, in a sentence."""


class Operation(NamedTuple):
    """What the OpenAPI document says of `/{model}/predict`; schemas are JSON Schema."""

    content: dict[str, Any]
    """Bodies of requests: media type to `{"schema": …}`."""
    parameters: list[dict[str, Any]]
    """Of the query."""
    answer: dict[str, Any]
    label: dict[str, Any] | None
    """Of `/{model}/predict/label`; `None` where there is no such route."""
    row: dict[str, Any]
    """Of the values of one row in a database."""


class Codec(ABC, Generic[R]):
    """The meaning of requests `R` to one model, and of its answers.

    A codec keeps no state between requests. Methods that are not `async` may be called in several threads at once.

    Attributes:
        slow: `tensors`, `judge` and `from_offered` take milliseconds, so that they run in threads.
        metadata, signature: of the stored model.
        limits: bounds of the entry, with the defaults of the kind filled in.
    """

    slow: ClassVar[bool] = False

    def __init__(self, stored: StoredModel, settings: ModelSettings) -> None:
        self.stored = stored
        self.settings = settings
        self.metadata = stored.metadata
        self.signature = stored.metadata.signature
        self.limits = settings.limits(stored.metadata.kind)

    # Requests over HTTP

    @abstractmethod
    def read_fast(self, body: bytes) -> R | None:
        """The request in a body of plain JSON that is right; `None` for whatever `read` has to judge."""

    @abstractmethod
    async def read(self, request: Request, *, label: bool = False) -> R:
        """The request, whatever its content type.

        Args:
            label: only the most probable class is asked for, so that parameters of ranking are unknown.

        Raises:
            MalformedRequestError, UnsupportedMediaTypeError: the body is not what its content type says.
            InvalidInputError: names the fields and values that are wrong.
        """

    def from_fields(self, fields: Mapping[str, Any]) -> R:
        """The request with these fields of its JSON body, as Python values; NumPy arrays count as lists.

        Raises:
            InvalidInputError: a field is missing, unknown or wrong.
        """
        request = self.read_fast(encode_python(fields))
        if request is None:
            raise InvalidInputError(f"the fields are not as in {encode(self.sample_json()).decode()[:200]}")
        return request

    def judge(self, request: R) -> None:
        """Refuse what `tensors` would refuse, as far as that can be told without its work. Jobs are judged so.

        Raises:
            InvalidInputError: as `tensors`.
        """

    def judge_fast(self, request: R) -> bool:  # noqa: ARG002
        """Whether `judge` would pass, told within microseconds; False says nothing."""
        return not self.slow

    @abstractmethod
    def tensors(self, request: R) -> tuple[Tensors, str]:
        """Pre-processing: what the engine takes, as `Signature.check` demands it, and its size for the log.

        The size is such as `rows=3` or `pixels=307200`.

        Raises:
            InvalidInputError: the request cannot be predicted.
        """

    # Answers

    @abstractmethod
    def answer(self, outputs: Tensors, request: R) -> bytes:
        """Post-processing: the JSON body of `/predict`, and the result of a job.

        Raises:
            InvalidInputError: the outputs are not finite: the input overflowed inside the model.
        """

    @property
    def has_labels(self) -> bool:
        """Whether `label` can answer."""
        return self.metadata.task == "classification"

    @abstractmethod
    def label(self, outputs: Tensors, request: R) -> bytes:
        """The JSON body of `/predict/label`; only called where there are labels. Raises as `answer`."""

    @abstractmethod
    def sample(self) -> R:
        """The built-in sample, which `/predict/test` predicts."""

    @abstractmethod
    def sample_json(self) -> dict[str, Any]:
        """The sample as the JSON body of a request."""

    # Jobs: what is kept of a request until a worker takes it

    @abstractmethod
    def dump(self, request: R) -> tuple[bytes, dict[str, Any]]:
        """A payload of plain bytes, and parameters that are JSON."""

    @abstractmethod
    def load(self, payload: bytes, parameters: Mapping[str, Any]) -> R:
        """What `dump` was given; also of versions before this one.

        Raises:
            ServingError: the payload or the parameters cannot be used.
        """

    # Batch: rows of a database

    @abstractmethod
    def read_row(self, text: str, files: Files) -> R:
        """The request in the JSON of a row's values.

        Raises:
            InvalidInputError: says what is wrong with the row, beginning with `values: `.
        """

    def check_row(self, text: str) -> ServingError | None:
        """What is wrong with the JSON of a row's values, told without opening files; `None` if nothing."""
        try:
            self.read_row(text, _NO_FILES)
        except (InvalidInputError, MalformedRequestError) as error:
            return error
        return None

    @abstractmethod
    def row_answers(self, outputs: Tensors) -> RowAnswers:
        """What is written beside each row of a batch; a row whose outputs are not finite fails alone.

        A plug-in that overrides `answer` overrides this too, if rows of a database are scored with it.
        """

    # The standard protocols

    def offered(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """What a client may send, alternatives in order of preference; the first stands in the model's metadata."""
        return (self.signature.inputs,)

    def from_offered(self, tensors: Tensors, *, first_row: int = 0) -> tuple[Tensors, str]:  # noqa: ARG002
        """What the engine takes, and its size for the log, from one of the alternatives of `offered`.

        Args:
            tensors: names, dtypes and ranks have been judged. Where the codec is slow it is called for each row.
            first_row: number of the first of them in the caller's request, for messages.

        Raises:
            InvalidInputError: a value cannot be used; the message begins with its place, as `image[2]: `.
        """
        self.signature.check(tensors, allow_nan=self.metadata.allow_nan)
        return tensors, f"rows={count(tensors) if self.signature.has_rows else 1}"

    def protocol_specs(self) -> tuple[TensorSpec, ...]:
        """The tensors that the standard protocols answer."""
        outputs = self.signature.outputs
        if not self.has_labels or self.metadata.multilabel or any(spec.name == LABEL for spec in outputs):
            return outputs
        return (*outputs, LABEL_SPEC)

    def protocol_outputs(self, outputs: Tensors) -> Tensors:
        """The outputs of the graph and, of a classifier, the most probable class of each row."""
        if not self._adds_label:
            return outputs
        return {**outputs, LABEL: strings(self.most_probable(outputs))}

    @cached_property
    def _adds_label(self) -> bool:
        """Whether the standard protocols are answered a label that the graph does not give."""
        return any(spec is LABEL_SPEC for spec in self.protocol_specs())

    @abstractmethod
    def most_probable(self, outputs: Tensors) -> list[str]:
        """The label of each row; only called where there are labels."""

    def check_outputs(self, outputs: Tensors, place: str) -> None:
        """Refuse outputs that are not finite, unless the model takes and gives NaN; raises InvalidInputError."""
        if not self.metadata.allow_nan:
            check_finite(outputs, place)

    # Documentation

    @abstractmethod
    def operation(self) -> Operation:
        """What `/docs.json` says of the model's routes."""


class _NoFiles:
    """For a check that opens nothing."""

    def read(self, text: str) -> bytes:  # noqa: ARG002
        return b""


_NO_FILES = _NoFiles()
