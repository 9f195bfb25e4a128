"""TensorFlow Serving's messages as JSON: https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import msgspec
from numpy.typing import NDArray

from serving.core.base64_text import decode_base64
from serving.core.errors import InvalidInputError
from serving.core.json_text import as_utf8
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES, Tensors
from serving.model import Model
from serving.protocols.tensors import (
    JSON_ERRORS,
    MOST_LISTED,
    MOST_STRINGS,
    check_shape,
    element_type,
    flatten,
    from_lists,
    from_texts,
    json_error,
    refuse_infinite,
)
from serving.protocols.tfserving.messages import (
    ClassifyRequest,
    ClassifyResponse,
    Example,
    Feature,
    ModelDescription,
    PredictRequest,
    PredictResponse,
    Signature,
)

encode = msgspec.json.encode
_LARGE_BYTES = 65_536
_MOST_FEATURES = 16_384
_B64 = "b64"
_NULL = msgspec.Raw(b"null")
_is_binary_value = re.compile(rb'\s*\[\s*\{\s*"b64"\s*:').match


class _Binary(msgspec.Struct, forbid_unknown_fields=True):
    """A string of any bytes."""

    b64: str


class _Predict(msgspec.Struct):
    signature_name: str | None = None
    instances: msgspec.Raw = _NULL
    inputs: msgspec.Raw = _NULL


class _Classify(msgspec.Struct):
    examples: list[dict[str, Any]]
    signature_name: str | None = None
    context: dict[str, Any] | None = None


_decode_predict = msgspec.json.Decoder(_Predict).decode
_decode_classify = msgspec.json.Decoder(_Classify).decode


def read_predict(body: bytes, content_type: str = "") -> tuple[PredictRequest, bool]:
    """A request to `:predict`, and whether it is in row format (`instances`).

    Raises:
        MalformedRequestError: not JSON.
        InvalidInputError: not an object with either `instances` or `inputs`.
    """
    text = as_utf8(body, content_type)
    try:
        request = _decode_predict(text)
    except JSON_ERRORS as error:
        raise json_error(error, "the request", text) from error
    instances, inputs = bytes(request.instances), bytes(request.inputs)
    if (instances == b"null") == (inputs == b"null"):
        raise InvalidInputError("either instances (rows) or inputs (columns) is required, and not both")
    name = request.signature_name or ""
    if inputs == b"null":
        return PredictRequest(name, JsonRows(instances)), True
    return PredictRequest(name, JsonColumns(inputs)), False


class JsonRows:
    """`instances`: a list of values of the one input, or of objects with all inputs by name."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def read(self, signature: Signature) -> Tensors:
        if not signature.has_rows:
            raise InvalidInputError("instances: the tensors of this model have no rows in common; send inputs")
        forms = _forms(signature)
        forms.refuse_too_much(self.text, "instances")
        named = self.text[1:64].lstrip()[:1] == b"{" and not (forms.has_text and _is_binary_value(self.text))
        rows = _decoded(forms.named_rows if named else forms.plain_rows, self.text, "instances")
        if not rows:
            raise InvalidInputError("instances: at least one row is required")
        if not named:
            return {forms.first.name: forms.array(forms.first, rows)}
        return {
            spec.name: forms.array(spec, [getattr(row, f"t{index}") for row in rows])
            for index, spec in enumerate(signature.inputs)
        }


class JsonColumns:
    """`inputs`: the values of the one input, or an object with those of all inputs by name."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def read(self, signature: Signature) -> Tensors:
        forms = _forms(signature)
        forms.refuse_too_much(self.text, "inputs")
        if self.text[:1] != b"{":
            return {forms.first.name: forms.array(forms.first, _decoded(forms.plain_columns, self.text, "inputs"))}
        columns = _decoded(forms.named_columns, self.text, "inputs")
        return {
            spec.name: forms.array(spec, getattr(columns, f"t{index}")) for index, spec in enumerate(signature.inputs)
        }


class _Forms:
    """What msgspec has to know of the inputs of a signature; decoders are made once."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self.first = signature.inputs[0]
        self.has_text = any(DTYPES[spec.dtype].is_text for spec in signature.inputs)
        self._most = self._most_values()
        # One value in each row may come without its list: `31` for `[31]`.
        self._columns = {spec.name for spec in signature.inputs if signature.has_rows and spec.inner_shape == [1]}

    def _most_values(self) -> int:
        """Values of a right request: of text it is a bound, as text has such signs in it too."""
        if self.has_text:
            return MOST_STRINGS
        rows = self._signature.max_rows if self._signature.has_rows else 1
        values = 0
        for spec in self._signature.inputs:
            inner = spec.inner_shape if self._signature.has_rows else spec.shape
            values += MOST_LISTED if None in inner else rows * (1 + math.prod(length or 0 for length in inner))
        return min(values, MOST_LISTED)

    def refuse_too_much(self, text: bytes, key: str) -> None:
        """Before it is decoded: the time that a long list takes is not worth a bad request."""
        if len(text) > _LARGE_BYTES and any(text.count(sign) > self._most + 16 for sign in (b",", b"[", b"{", b":")):
            raise InvalidInputError(f"{key}: more values than any request may have")

    @cached_property
    def plain_rows(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(list[self._only(rows=True)])  # type: ignore[misc]

    @cached_property
    def plain_columns(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self._only(rows=False))

    @cached_property
    def named_rows(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(list[self._object(rows=True)])  # type: ignore[misc]

    @cached_property
    def named_columns(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self._object(rows=False))

    def _only(self, *, rows: bool) -> Any:
        """The type of a value of the one input."""
        if len(self._signature.inputs) > 1:
            names = ", ".join(spec.name for spec in self._signature.inputs)
            raise InvalidInputError(f"the inputs are {names}: objects with all of them are required")
        return self._type(self.first, rows=rows)

    def _object(self, *, rows: bool) -> Any:
        """The type of an object with all inputs, whose names need not be ones that Python takes."""
        return msgspec.defstruct(
            "inputs",
            [(f"t{index}", self._type(spec, rows=rows)) for index, spec in enumerate(self._signature.inputs)],
            rename={f"t{index}": spec.name for index, spec in enumerate(self._signature.inputs)},
            forbid_unknown_fields=True,
        )

    def _type(self, spec: TensorSpec, *, rows: bool) -> Any:
        """Of the values of an input, in a row or in all rows."""
        is_text = DTYPES[spec.dtype].is_text
        found: Any = str | _Binary if is_text else element_type(spec.dtype, allow_nan=self._signature.allow_nan)
        rank = len(spec.shape)
        if spec.name in self._columns:
            found, rank = list[found] | found, 1
        for _ in range(rank - rows):
            found = list[found]
        return found

    def array(self, spec: TensorSpec, values: Any) -> NDArray[Any]:
        """Decoded values of all rows as an array."""
        rank = len(spec.shape)
        if spec.name in self._columns:
            values = [value if isinstance(value, list) else [value] for value in values]
        if DTYPES[spec.dtype].is_text:
            texts, shape = flatten(spec, values, rank)
            texts = [_from_base64(spec, text.b64) if isinstance(text, _Binary) else text for text in texts]
            array = from_texts(spec, texts, shape)
        else:
            array = from_lists(spec, values, rank)
            if self._signature.allow_nan:
                refuse_infinite(spec, array)
        shape = check_shape(spec, array.shape, has_rows=self._signature.has_rows)
        return array if array.shape == shape else array.reshape(shape)


# A signature lives as long as its model.
_forms = cache(_Forms)


def _decoded(decoder: msgspec.json.Decoder[Any], text: bytes, key: str) -> Any:
    try:
        return decoder.decode(text)
    except JSON_ERRORS as error:
        raise json_error(error, key, text) from error


def _from_base64(spec: TensorSpec, text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise InvalidInputError(f"{spec.name}: b64 is {error}") from error


def read_classify(body: bytes, content_type: str = "") -> ClassifyRequest:
    """A request to `:classify`. A feature may be a list or, when it is one value, the value itself.

    Raises:
        MalformedRequestError: not JSON.
        InvalidInputError: not such a request.
    """
    if len(body) > _LARGE_BYTES and any(body.count(sign) > _MOST_FEATURES for sign in (b",", b"[", b"{", b":")):
        raise InvalidInputError("the request has more features than any request may have")
    text = as_utf8(body, content_type)
    try:
        request = _decode_classify(text)
    except JSON_ERRORS as error:
        raise json_error(error, "the request", text) from error
    return ClassifyRequest(
        request.signature_name or "",
        [_features(example) for example in request.examples],
        _features(request.context or {}),
    )


def _features(example: dict[str, Any]) -> Example:
    return {
        name: Feature([_value(name, each) for each in (value if isinstance(value, list) else [value])])
        for name, value in example.items()
    }


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == [_B64] and isinstance(value[_B64], str):
        return _from_base64(TensorSpec(name=name[:64], dtype="bytes", shape=[]), value[_B64])
    return value


def write_predict(response: PredictResponse, *, by_row: bool) -> bytes:
    """`predictions`, one for each row, or `outputs`; those of a single output are not named."""
    outputs = [array.tolist() for array in response.outputs.values()]
    if len(outputs) == 1:
        return encode({"predictions" if by_row else "outputs": outputs[0]})
    names = list(response.outputs)
    if not by_row:
        return encode({"outputs": dict(zip(names, outputs, strict=True))})
    return encode({"predictions": [dict(zip(names, row, strict=True)) for row in zip(*outputs, strict=True)]})


def write_classify(response: ClassifyResponse) -> bytes:
    return encode({"results": [list(zip(response.labels, row, strict=True)) for row in response.scores]})


def write_status(model: Model) -> bytes:
    """`GetModelStatusResponse`, and what KServe has in its place. A model whose runner is away is loading."""
    status = {
        "version": str(model.version),
        "state": "AVAILABLE" if model.ready else "LOADING",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return encode({"model_version_status": [status], "name": model.name, "ready": model.ready})


def write_metadata(model: ModelDescription) -> bytes:
    """`GetModelMetadataResponse`."""
    signatures = {name: _describe(name, signature) for name, signature in model.signatures.items()}
    return encode(
        {
            "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
    )


def _describe(name: str, signature: Signature) -> dict[str, Any]:
    def tensors(specs: Sequence[TensorSpec]) -> dict[str, Any]:
        return {
            spec.name: {
                "dtype": DTYPES[spec.dtype].tensorflow,
                "tensor_shape": {
                    "dim": [{"size": str(-1 if length is None else length), "name": ""} for length in spec.shape],
                    "unknown_rank": False,
                },
                "name": f"{name}_{spec.name}:0",
            }
            for spec in specs
        }

    return {
        "inputs": tensors(signature.inputs),
        "outputs": tensors(signature.outputs),
        "method_name": signature.method,
        "defaults": {},
    }
