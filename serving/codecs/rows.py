"""Models of rows: a table in, one prediction for each row out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec
import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from starlette.requests import Request

from serving.codecs.answers import Answers, row_answers, tensor_rows, tensors_json
from serving.codecs.base import Codec, Files, Operation, RowAnswers, encode
from serving.codecs.columns import TensorBuilder, to_values, value_type
from serving.codecs.json_body import read_json
from serving.codecs.schemas import array_of, json_schema, object_of
from serving.core.columns import FLOAT_MAX, columns_of
from serving.core.errors import ErrorDetail, InvalidInputError, MalformedRequestError, ServingError
from serving.core.tensors import DTYPES, STRING, Tensors, count, from_bytes, to_bytes
from serving.core.validation import from_msgspec, from_validation, msgspec_text
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

_LARGE_BYTES = 65_536
"""Above it a body's lists and commas are counted before it is decoded: pydantic reads all of it and collects every
fault, which of 16 MB of nothing but faults takes seconds, in a thread as well, since it keeps the lock."""
_WIDE = 64
"""Columns from which a tuple type is too slow to build."""
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode_json = msgspec.json.Decoder(msgspec.Raw).decode
_are_records = re.compile(rb'"data"\s*:\s*\[\s*\{').search


class RowsCodec(Codec[Tensors]):
    """`{"data": [[5.1, 3.5, …], …]}` or records, `{"data": [{"sepal length (cm)": 5.1, …}, …]}`, by name in any order.

    `_explain` is the contract: pydantic decides what is accepted and says what is wrong. `read_fast` accepts a subset
    of it several times quicker and leaves the rest.

    The request is the tensors that the engine takes, N rows of them.
    """

    def __init__(self, stored: StoredModel, settings: ModelSettings) -> None:
        super().__init__(stored, settings)
        self.columns = columns_of(self.metadata)
        self._is_raw = self.metadata.task == "raw"
        self._build = TensorBuilder(self.metadata, self.columns)
        self._answers = Answers(self.metadata)
        types = [value_type(column.dtype, allow_nan=self.metadata.allow_nan) for column in self.columns]
        self._row_type = _row_type(types)
        # Fields have names of our own, as a column's need not be one that Python takes.
        record = msgspec.defstruct(
            "record",
            [(f"c{index}", type_) for index, type_ in enumerate(types)],
            rename={f"c{index}": column.name for index, column in enumerate(self.columns)},
            forbid_unknown_fields=True,
        )
        self._decode_rows = msgspec.json.Decoder(self._body_type(self._row_type)).decode
        self._decode_records = msgspec.json.Decoder(self._body_type(record)).decode
        self._decode_row = msgspec.json.Decoder(self._row_type).decode
        self._decode_record = msgspec.json.Decoder(record).decode
        self._has_text = any(column.dtype == STRING for column in self.columns)
        self._has_integers = any(DTYPES[column.dtype].numpy.kind in "iu" for column in self.columns)
        self._has_commas = self._has_text or any("," in column.name or "[" in column.name for column in self.columns)

    def _body_type(self, row: Any) -> Any:
        rows = Annotated[list[row], msgspec.Meta(min_length=1, max_length=self.limits.max_rows)]
        return msgspec.defstruct("body", [("data", rows)], forbid_unknown_fields=True)

    # Requests over HTTP

    def read_fast(self, body: bytes) -> Tensors | None:
        if self._has_too_much(body):
            return None
        try:
            return self._build(self._decode_rows(body).data)
        except _DECODE_ERRORS:
            pass
        try:
            return self._build([msgspec.structs.astuple(row) for row in self._decode_records(body).data])
        except _DECODE_ERRORS:
            return None

    async def read(self, request: Request, *, label: bool = False) -> Tensors:  # noqa: ARG002
        body = await read_json(request)
        found = self.read_fast(body)
        return self._explain(body) if found is None else found

    def _explain(self, body: bytes) -> Tensors:
        """Raises MalformedRequestError and InvalidInputError; names the rows and values that are wrong."""
        if not body:
            raise MalformedRequestError(f"the body is empty; send {encode(self.sample_json()).decode()}")
        if self._has_too_much(body):
            message = f"more lists or values than {self.limits.max_rows} rows of {len(self.columns)} numbers have"
            raise InvalidInputError(f"data: {message}", details=[ErrorDetail("data", message)])
        records = bool(_are_records(body))
        if len(body) > _LARGE_BYTES and self._has_commas:
            # Text may have any number of brackets and commas, so only the first fault is looked for.
            try:
                (self._decode_records if records else self._decode_rows)(body)
            except _DECODE_ERRORS as error:
                raise from_msgspec(error, body) from error
        try:
            return self._build(self._validated(body, records=records))
        except ValidationError as error:
            raise from_validation(error) from error

    def _validated(self, body: bytes, *, records: bool) -> list[Any]:
        values: list[Any] = (self._records if records else self._rows).model_validate_json(body).data  # type: ignore[attr-defined]
        if records:
            return [[getattr(row, f"c{index}") for index in range(len(self.columns))] for row in values]
        return values

    def _has_too_much(self, body: bytes) -> bool:
        """Whether a large body can only be wrong, told within milliseconds: neither sign stands anywhere else in it."""
        if len(body) <= _LARGE_BYTES or self._has_commas:
            return False
        lists = body.count(b"[") + body.count(b"{")
        return lists > 2 * self.limits.max_rows + 2 or body.count(b",") > self.limits.max_rows * len(self.columns)

    @cached_property
    def _rows(self) -> type[BaseModel]:
        types = [self._pydantic_type(column.dtype) for column in self.columns]
        if len({column.dtype for column in self.columns}) == 1:
            row: Any = Annotated[list[types[0]], Field(min_length=len(types), max_length=len(types))]  # type: ignore[valid-type]
        else:
            row = tuple[tuple(types)]  # type: ignore[misc]
        return self._pydantic_body(row)

    @cached_property
    def _records(self) -> type[BaseModel]:
        fields: dict[str, Any] = {
            f"c{index}": (self._pydantic_type(column.dtype), Field(alias=column.name))
            for index, column in enumerate(self.columns)
        }
        return self._pydantic_body(create_model("Record", __config__=ConfigDict(extra="forbid", strict=True), **fields))

    def _pydantic_body(self, row: Any) -> type[BaseModel]:
        rows = Annotated[list[row], Field(min_length=1, max_length=self.limits.max_rows)]
        return create_model("Rows", __config__=ConfigDict(extra="forbid", strict=True), data=(rows, ...))

    def _pydantic_type(self, dtype: str) -> Any:
        known = DTYPES[dtype]
        if dtype == STRING:
            return str
        if known.is_float:
            most = FLOAT_MAX[dtype]
            number: Any = Annotated[float, Field(ge=-most, le=most, allow_inf_nan=False)]
            return number | None if self.metadata.allow_nan else number
        if known.numpy.kind == "b":
            return bool
        info = np.iinfo(known.numpy)
        # Other programs write whole numbers as 3.0.
        return Annotated[int, BeforeValidator(_whole), Field(ge=int(info.min), le=int(info.max))]

    def tensors(self, request: Tensors) -> tuple[Tensors, str]:
        return request, f"rows={count(request)}"

    # Answers

    def answer(self, outputs: Tensors, request: Tensors) -> bytes:  # noqa: ARG002
        if self._is_raw:
            self.check_outputs(outputs, "data")
            return encode({"outputs": tensors_json(outputs)})
        return encode({"prediction": self._answers.predictions(outputs, "data")})

    def label(self, outputs: Tensors, request: Tensors) -> bytes:  # noqa: ARG002
        self._answers.predictions(outputs, "data")
        return encode({"prediction": self._answers.labels(outputs)})

    def most_probable(self, outputs: Tensors) -> list[str]:
        return self._answers.most_probable(outputs)

    def sample(self) -> Tensors:
        return self.stored.sample or self.signature.zeros()

    def sample_json(self) -> dict[str, Any]:
        values = to_values(self.sample(), self.columns)
        if len(self.metadata.inputs) == 1:
            return {"data": values}
        # Columns of different kinds are told apart by their names.
        return {
            "data": [{column.name: value for column, value in zip(self.columns, row, strict=True)} for row in values]
        }

    # Jobs

    def dump(self, request: Tensors) -> tuple[bytes, dict[str, Any]]:
        return to_bytes(request), {"v": 1}

    def load(self, payload: bytes, parameters: Mapping[str, Any]) -> Tensors:
        tensors = from_bytes(payload) if "v" in parameters else self._load_first_version(payload)
        self.signature.check(tensors, allow_nan=self.metadata.allow_nan)
        return tensors

    def _load_first_version(self, payload: bytes) -> Tensors:
        """Before there were versions the payload was the rows of one float32 matrix."""
        row_bytes = len(self.columns) * 4
        if not payload or len(payload) % row_bytes:
            raise InvalidInputError("the payload of the job is not rows of float32")
        return {self.metadata.inputs[0].name: np.frombuffer(payload, "<f4").reshape(-1, len(self.columns))}

    # Batch

    def read_row(self, text: str, files: Files) -> Tensors:  # noqa: ARG002
        tensors, (fault,) = self.read_rows([text])
        if fault is not None:
            try:
                (self._decode_record if _is_object(text) else self._decode_row)(text)
            except _DECODE_ERRORS as error:
                raise InvalidInputError(fault, details=from_msgspec(error, text, prefix="values").details) from error
        return tensors

    def check_row(self, text: str) -> ServingError | None:
        if type(self).read_row is not RowsCodec.read_row:  # a plug-in's own
            return super().check_row(text)
        try:
            (self._decode_record if _is_object(text) else self._decode_row)(text)
        except _DECODE_ERRORS:
            return super().check_row(text)
        return None

    def read_rows(self, texts: Sequence[str]) -> tuple[Tensors, list[str | None]]:
        """The rows in the JSON of many rows' values, and what is wrong with each; a wrong one is zeros."""
        errors: list[str | None] = [None] * len(texts)
        try:
            values = list(map(self._decode_row, texts))
        except _DECODE_ERRORS:
            values = [self._read_value(text, index, errors) for index, text in enumerate(texts)]
        return self._build(values), errors

    def _read_value(self, text: str, index: int, errors: list[str | None]) -> Any:
        try:
            if _is_object(text):
                return msgspec.structs.astuple(self._decode_record(text))
            return self._decode_row(text)
        except _DECODE_ERRORS as error:
            if self._has_integers and (values := self._read_as_body(text)) is not None:
                return values
            kind = "values" if self._has_text else "finite numbers"
            errors[index] = f"values: a list of {len(self.columns)} {kind} is required: {msgspec_text(error)}"
            return ["" if column.dtype == STRING else 0 for column in self.columns]

    def _read_as_body(self, text: str) -> Any:
        """The values of a row that `/predict` takes and msgspec does not: whole numbers that are written as 3.0."""
        try:
            _decode_json(text)  # one value, and nothing after it
            (values,) = self._validated(b'{"data":[' + text.encode() + b"]}", records=_is_object(text))
        except (*_DECODE_ERRORS, ValidationError):
            return None
        return values

    def row_answers(self, outputs: Tensors) -> RowAnswers:
        allow_nan = self.metadata.allow_nan
        if self.metadata.task == "raw":
            return row_answers(outputs, tensor_rows(outputs, self.signature), [], allow_nan=allow_nan)
        scores = {self.metadata.scores: outputs[self.metadata.scores]}
        labels = self._answers.labels(outputs) if self.has_labels else []
        return row_answers(scores, self._answers.values(outputs), labels, allow_nan=allow_nan)

    # Documentation

    def operation(self) -> Operation:
        names = [column.name for column in self.columns]
        schemas = [json_schema(column.dtype, allow_nan=self.metadata.allow_nan) for column in self.columns]
        same = all(schema == schemas[0] for schema in schemas)
        row: dict[str, Any] = {"type": "array", "minItems": len(names), "maxItems": len(names)}
        row |= {"items": schemas[0]} if same else {"prefixItems": schemas, "items": {}}
        record = object_of(dict(zip(names, schemas, strict=True)))
        # All rows of a request have one form.
        bounds = {"minItems": 1, "maxItems": self.limits.max_rows}
        data = {
            "description": f"rows of {', '.join(names[:_WIDE])}, as lists in this order or as objects by name",
            "anyOf": [array_of(row) | bounds, array_of(record) | bounds],
        }
        body = object_of({"data": data}) | {"examples": [self.sample_json()]}
        return Operation(
            content={"application/json": {"schema": body}},
            parameters=[],
            answer=self._answer_schema(),
            label=object_of({"prediction": array_of({"type": "string", "enum": self.metadata.labels})})
            if self.has_labels and not self.metadata.multilabel
            else object_of({"prediction": array_of(array_of({"type": "string"}))})
            if self.has_labels
            else None,
            row={"anyOf": [row, record]},
        )

    def _answer_schema(self) -> dict[str, Any]:
        number = {"type": "number"}
        if self.metadata.task == "classification":
            return object_of({"prediction": array_of(array_of(number))})
        if self.metadata.task == "regression":
            shape = self.metadata.scores_spec.shape
            flat = len(shape) == 1 or shape[1:] == [1]
            return object_of({"prediction": array_of(number if flat else array_of(number))})
        return object_of({"outputs": object_of({spec.name: {} for spec in self.metadata.outputs})})


def _row_type(types: Sequence[Any]) -> Any:
    if len(types) > _WIDE and all(each == types[0] for each in types):
        return Annotated[list[types[0]], msgspec.Meta(min_length=len(types), max_length=len(types))]  # type: ignore[valid-type]
    return tuple[tuple(types)]  # type: ignore[misc]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_object(text: str) -> bool:
    return text.lstrip()[:1] == "{"
