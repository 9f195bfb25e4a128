"""Models of any tensors: named inputs in, named outputs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from serving.codecs.answers import Answers, row_answers, tensor_rows, tensors_json
from serving.codecs.base import Codec, Files, Operation, RowAnswers, encode
from serving.codecs.columns import value_type
from serving.codecs.json_body import read_json
from serving.codecs.schemas import array_of, object_of, tensor_schema
from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES, Tensors, count, from_bytes, strings, to_bytes
from serving.core.validation import from_msgspec
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

_DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)


class TensorsCodec(Codec[Tensors]):
    """`{"inputs": {"user": [[…]], "item": [[…]]}}`, answered with `{"outputs": {…}}`.

    Values are nested lists of the tensor's shape, with the batch as the first dimension where there is one. The request
    is the tensors that the engine takes.
    """

    def __init__(self, stored: StoredModel, settings: ModelSettings) -> None:
        super().__init__(stored, settings)
        self._answers = Answers(self.metadata)
        inputs = self._struct({spec.name: self._nested(spec, len(spec.shape)) for spec in self.metadata.inputs})
        self._decode = msgspec.json.Decoder(
            msgspec.defstruct("body", [("inputs", inputs)], forbid_unknown_fields=True)
        ).decode
        inner = 1 if self.signature.has_rows else 0
        row = self._struct({spec.name: self._nested(spec, len(spec.shape) - inner) for spec in self.metadata.inputs})
        self._decode_row = msgspec.json.Decoder(row).decode

    def _nested(self, spec: TensorSpec, rank: int) -> Any:
        found: Any = value_type(spec.dtype, allow_nan=self.metadata.allow_nan)
        if spec.dtype == "uint64":
            # msgspec has no bounds beyond int64; `_array` judges the rest.
            found = Annotated[int, msgspec.Meta(ge=0)]
        for _ in range(rank):
            found = list[found]
        return found

    @staticmethod
    def _struct(fields: dict[str, Any]) -> Any:
        """A type with these fields, whose names need not be ones that Python takes."""
        return msgspec.defstruct(
            "tensors",
            [(f"t{index}", type_) for index, type_ in enumerate(fields.values())],
            rename={f"t{index}": name for index, name in enumerate(fields)},
            forbid_unknown_fields=True,
        )

    # Requests over HTTP

    def read_fast(self, body: bytes) -> Tensors | None:
        try:
            return self._read(body)
        except ServingError:
            return None

    async def read(self, request: Request, *, label: bool = False) -> Tensors:  # noqa: ARG002
        body = await read_json(request)
        if not body:
            raise MalformedRequestError(f"the body is empty; send {encode(self.sample_json()).decode()[:200]}")
        return self._read(body)

    def _read(self, body: bytes) -> Tensors:
        try:
            values = msgspec.structs.astuple(self._decode(body).inputs)  # type: ignore[attr-defined]
        except _DECODE_ERRORS as error:
            raise from_msgspec(error, body) from error
        tensors = {
            spec.name: _array(spec, value, f"inputs.{spec.name}")
            for spec, value in zip(self.metadata.inputs, values, strict=True)
        }
        self._judge(tensors)
        return tensors

    def _judge(self, tensors: Tensors) -> None:
        self.signature.check(tensors, allow_nan=self.metadata.allow_nan)
        if self.signature.has_rows and not 1 <= count(tensors) <= self.limits.max_rows:
            raise InvalidInputError(
                f"inputs: 1 to {self.limits.max_rows} rows are allowed in a request, not {count(tensors)}"
            )

    def tensors(self, request: Tensors) -> tuple[Tensors, str]:
        return request, f"rows={count(request) if self.signature.has_rows else 1}"

    # Answers

    def answer(self, outputs: Tensors, request: Tensors) -> bytes:  # noqa: ARG002
        self.check_outputs(outputs, "inputs")
        return encode({"outputs": tensors_json(outputs)})

    def label(self, outputs: Tensors, request: Tensors) -> bytes:  # noqa: ARG002
        self.check_outputs(outputs, "inputs")
        return encode({"prediction": self._answers.labels(outputs)})

    def most_probable(self, outputs: Tensors) -> list[str]:
        return self._answers.most_probable(outputs)

    def sample(self) -> Tensors:
        return self.stored.sample or self.signature.zeros()

    def sample_json(self) -> dict[str, Any]:
        return {"inputs": tensors_json(self.sample())}

    # Jobs

    def dump(self, request: Tensors) -> tuple[bytes, dict[str, Any]]:
        return to_bytes(request), {"v": 1}

    def load(self, payload: bytes, parameters: Mapping[str, Any]) -> Tensors:  # noqa: ARG002
        tensors = from_bytes(payload)
        self._judge(tensors)
        return tensors

    # Batch

    def read_row(self, text: str, files: Files) -> Tensors:  # noqa: ARG002
        try:
            values = msgspec.structs.astuple(self._decode_row(text))
        except _DECODE_ERRORS as error:
            found = from_msgspec(error, text, prefix="values")
            message = f"values: an object of tensors is required: {found.message}"
            raise InvalidInputError(message, details=found.details) from error
        tensors: Tensors = {}
        for spec, value in zip(self.metadata.inputs, values, strict=True):
            given = [value] if self.signature.has_rows else value
            tensors[spec.name] = _array(spec, given, f"values.{spec.name}")
        self._judge(tensors)
        return tensors

    def row_answers(self, outputs: Tensors) -> RowAnswers:
        labels = self._answers.labels(outputs) if self.has_labels else []
        return row_answers(outputs, tensor_rows(outputs, self.signature), labels, allow_nan=self.metadata.allow_nan)

    # Documentation

    def operation(self) -> Operation:
        allow_nan = self.metadata.allow_nan
        inputs = {spec.name: tensor_schema(spec, allow_nan=allow_nan) for spec in self.metadata.inputs}
        outputs = {spec.name: tensor_schema(spec, allow_nan=True) for spec in self.metadata.outputs}
        return Operation(
            content={"application/json": {"schema": object_of({"inputs": object_of(inputs)})}},
            parameters=[],
            answer=object_of({"outputs": object_of(outputs)}),
            label=object_of({"prediction": array_of({})}) if self.has_labels else None,
            row=object_of({name: self._row_schema(schema) for name, schema in inputs.items()}),
        )

    def _row_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Of one row of a tensor, from the schema of the tensor."""
        row: dict[str, Any] = schema["items"] if self.signature.has_rows else schema
        return row


def _array(spec: TensorSpec, value: Any, place: str) -> NDArray[Any]:
    """Nested lists of values of the right type as an array."""
    dtype = DTYPES[spec.dtype]
    rank = len(spec.shape)
    try:
        if dtype.is_text:
            return _text_array(value, spec)
        array = np.array(value, dtype.numpy)
    except OverflowError as error:
        raise InvalidInputError(f"{place}: a number is not within the bounds of {spec.dtype}") from error
    except ValueError as error:
        raise InvalidInputError(f"{place}: the lists are not equally long") from error
    if array.ndim < rank and array.size == 0:
        return array.reshape(_complete(array.shape, spec))
    return array


def _complete(shape: Sequence[int], spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an empty tensor: an empty list says nothing of the lists that it does not hold."""
    return (*shape, *(length or 0 for length in spec.shape[len(shape) :]))


def _text_array(value: Any, spec: TensorSpec) -> NDArray[Any]:
    """Raises ValueError where lists are not equally long."""
    shape: list[int] = []
    values = [value]
    for _ in spec.shape:
        lengths = {len(each) for each in values}
        if not lengths:
            return strings([], _complete(shape, spec))
        if len(lengths) > 1:
            raise ValueError
        shape.append(lengths.pop())
        values = [inner for each in values for inner in each]
    return strings(values, tuple(shape))
