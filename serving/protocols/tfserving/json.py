"""Requests of TensorFlow Serving's REST API, from JSON to what models take."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from serving.core.errors import InvalidInputError, MalformedRequestError
from serving.protocols.served_models import ServedModel, Signature, Values
from serving.store.models import TensorSpec

_LARGE_BYTES = 65_536
_LARGEST_LIST = 4_096
"""Commas or objects in a large request for strings; no request that is answered has so many."""
_B64 = "b64"


class _Predict(msgspec.Struct):
    signature_name: str = ""
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Classify(msgspec.Struct):
    examples: list[dict[str, Any]]
    signature_name: str = ""
    context: dict[str, Any] = {}


class PredictRequest(NamedTuple):
    """`by_row`: the answer has `predictions`, else `outputs`."""

    signature_name: str
    data: bytes
    by_row: bool


_decode_predict = msgspec.json.Decoder(_Predict).decode
_decode_classify = msgspec.json.Decoder(_Classify).decode
_decode_any = msgspec.json.Decoder().decode
_decode_rows = msgspec.json.Decoder(list[list[float]]).decode
_decode_named_rows = msgspec.json.Decoder(list[dict[str, list[float]]]).decode
_decode_columns = msgspec.json.Decoder(dict[str, list[list[float]]]).decode


def read_predict(body: bytes) -> PredictRequest:
    """The parts of a request to `:predict`.

    Raises:
        MalformedRequestError: not JSON.
        InvalidInputError: not an object with either `instances` or `inputs`.
    """
    request = _judged(_decode_predict, body, "the request")
    if isinstance(request.inputs, msgspec.Raw) and not isinstance(request.instances, msgspec.Raw):
        return PredictRequest(request.signature_name, bytes(request.inputs), by_row=False)
    if isinstance(request.instances, msgspec.Raw) and not isinstance(request.inputs, msgspec.Raw):
        return PredictRequest(request.signature_name, bytes(request.instances), by_row=True)
    raise InvalidInputError("either instances (rows) or inputs (columns) is required, and not both")


def read_values(request: PredictRequest, signature: Signature, model: ServedModel) -> Values:
    """Rows or image files, for the one input that a signature has.

    Raises:
        InvalidInputError: names what is wrong.
    """
    (spec,) = signature.inputs
    key = "instances" if request.by_row else "inputs"
    if spec.dtype == "bytes":
        return _read_strings(request, spec, key)
    _refuse_too_much(request.data, key, model.most_rows * (len(model.stored.metadata.feature_names) or 1))
    start = request.data[1:64].lstrip()[:1]
    if not request.by_row and request.data[:1] == b"{":
        rows = _only(_judged(_decode_columns, request.data, key), spec, key)
    elif request.by_row and start == b"{":
        rows = [
            _only(named, spec, f"{key}[{index}]")
            for index, named in enumerate(_judged(_decode_named_rows, request.data, key))
        ]
    else:
        rows = _judged(_decode_rows, request.data, key)
    return _floats(rows, key)


def _floats(rows: list[list[float]], key: str) -> Values:
    if not rows:
        raise InvalidInputError(f"{key}: at least one row is required")
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which the model refuses
            return np.array(rows, np.float32)
    except ValueError as error:
        raise InvalidInputError(f"{key}: the rows are not equally long") from error


def _read_strings(request: PredictRequest, spec: TensorSpec, key: str) -> list[bytes]:
    _refuse_too_much(request.data, key, _LARGEST_LIST)
    given = _judged(_decode_any, request.data, key)
    if isinstance(given, dict) and not request.by_row and _B64 not in given:
        given = _only(given, spec, key)
    if not isinstance(given, list):
        raise InvalidInputError(f"{key}: a list is required")
    values = []
    for index, value in enumerate(given):
        where = f"{key}[{index}]"
        named = isinstance(value, dict) and request.by_row and _B64 not in value
        values.append(_text(_only(value, spec, where) if named else value, where))
    return values


def _text(value: Any, where: str) -> bytes:
    """An element of a string tensor: text, or `{"b64": "…"}` for any bytes."""
    if isinstance(value, str):
        return _utf8(value, where)
    if isinstance(value, dict) and list(value) == [_B64] and isinstance(value[_B64], str):
        # With either alphabet, with or without padding.
        text = _utf8(value[_B64], where).rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        try:
            return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError(f"{where}: b64 is not base64") from error
    raise InvalidInputError(f'{where}: a string or {{"b64": "<base64>"}} is required')


def _utf8(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{where}: the text has half a surrogate pair") from error


def read_classify(body: bytes) -> tuple[str, list[dict[str, Any]]]:
    """Name of the signature, and the features of each example.

    Raises:
        MalformedRequestError: not JSON.
        InvalidInputError: there are no examples, or a feature of the context is in one of them too.
    """
    _refuse_too_much(body, "the request", 4 * _LARGEST_LIST)
    request = _judged(_decode_classify, body, "the request")
    if not request.examples:
        raise InvalidInputError("examples: at least one is required")
    for index, example in enumerate(request.examples):
        if not request.context.keys().isdisjoint(example):
            raise InvalidInputError(f"examples[{index}]: a feature of the context is in the example too")
    return request.signature_name, [request.context | example for example in request.examples]


def example_values(examples: list[dict[str, Any]], model: ServedModel) -> Values:
    """What the model takes, from examples with its input as one feature, or each of its columns as a feature.

    Raises:
        InvalidInputError: a feature is missing, unknown, or not of the model's type and length.
    """
    spec, columns = model.inputs[0], model.stored.metadata.feature_names
    if len(examples) > model.most_rows:
        raise InvalidInputError(f"examples: {len(examples)} are more than {model.most_rows}")
    rows: list[Any] = []
    for index, example in enumerate(examples):
        where = f"examples[{index}]"
        unknown = next((name for name in example if name != spec.name and name not in columns), None)
        if unknown is not None:
            raise InvalidInputError(f"{where}: unknown feature; there is {', '.join([spec.name, *columns])}")
        if spec.dtype == "bytes":
            (value,) = _feature(example, spec.name, 1, where)
            rows.append(_text(value, where))
        elif spec.name in example:
            rows.append(_numbers(_feature(example, spec.name, len(columns), where), where))
        else:
            rows.append(_numbers([each for name in columns for each in _feature(example, name, 1, where)], where))
    return rows if spec.dtype == "bytes" else _floats(rows, "examples")


def _feature(example: Mapping[str, Any], name: str, count: int, where: str) -> list[Any]:
    """The values of a feature, which may be a list or, when it is one, the value itself."""
    if name not in example:
        raise InvalidInputError(f"{where}: the feature {name} is missing")
    values = example[name] if isinstance(example[name], list) else [example[name]]
    if len(values) != count:
        raise InvalidInputError(f"{where}: the feature {name} has {len(values)} values, not {count}")
    return values


def _numbers(values: list[Any], where: str) -> list[float]:
    try:
        return msgspec.convert(values, list[float])
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{where}: numbers are required") from error


def _only(named: dict[str, Any], spec: TensorSpec, where: str) -> Any:
    """The value of an object that has the signature's input and nothing else."""
    if list(named) != [spec.name]:
        raise InvalidInputError(f"{where}: an object with the input {spec.name} and no other is required")
    return named[spec.name]


def _judged(decode: Any, text: bytes, what: str) -> Any:
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{what}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequestError(f"{what} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise MalformedRequestError(f"{what} is nested too deeply") from error


def _refuse_too_much(data: bytes, what: str, most: int) -> None:
    """Before it is decoded: the time that a long list takes is not worth a bad request."""
    if len(data) > _LARGE_BYTES and any(data.count(sign) > most + 16 for sign in (b",", b"[", b"{", b":")):
        raise InvalidInputError(f"{what}: more values than any request may have")
