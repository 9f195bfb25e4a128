"""The Open Inference Protocol's messages as JSON, with binary data after it.

The body is JSON, or JSON of the length that the header `Inference-Header-Content-Length` says, followed by the data of
those inputs that have the parameter `binary_data_size`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError, MalformedRequestError
from serving.core.json_text import as_utf8
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES
from serving.core.validation import shortened
from serving.protocols.open_inference.messages import (
    BinaryData,
    Data,
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    Parameters,
    to_binary,
)
from serving.protocols.tensors import (
    JSON_ERRORS,
    MOST_STRINGS,
    as_texts,
    check_count,
    from_lists,
    json_error,
    list_decoder,
    refuse_infinite,
)

encode = msgspec.json.encode
_LARGE_BYTES = 65_536
_MOST_MEMBERS = 16_384
"""Members of objects in a large header. Decoding a body of nothing but those takes a second and holds up everybody."""
_MOST_TENSORS = 4_096
_NULL = msgspec.Raw(b"null")

# Parameters of other servers may be anything: only those that are known here are looked into.
_Parameters = dict[str, msgspec.Raw]
_Length = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Input(msgspec.Struct):
    name: str
    shape: Annotated[list[_Length], msgspec.Meta(max_length=16)]
    datatype: str
    parameters: _Parameters | None = None
    data: msgspec.Raw = _NULL


class _Output(msgspec.Struct):
    name: str
    parameters: _Parameters | None = None


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Input], msgspec.Meta(min_length=1, max_length=_MOST_TENSORS)]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=_MOST_TENSORS)] | None = None


class _Index(msgspec.Struct):
    ready: bool | None = None


_decode = msgspec.json.Decoder(_Request).decode
_decode_index = msgspec.json.Decoder(_Index).decode
_members = re.compile(rb'"\s*:').findall
_decode_parameter = msgspec.json.Decoder(str | float | bool | None).decode
_NO_PARAMETERS: Parameters = {}
_OTHER = object()
"""Stands for a parameter that is none of these, such as a list: where it is known its check refuses it."""


class JsonData:
    """Elements in lists, row-major, flat or nested as the shape."""

    __slots__ = ("text",)
    listed = True

    def __init__(self, text: bytes) -> None:
        self.text = text

    def read(self, spec: TensorSpec, shape: tuple[int, ...], *, allow_nan: bool) -> NDArray[Any]:
        text = self.text
        # A scalar may stand by itself, an array with a single dimension is flat.
        nested = text[:1] != b"[" or text[1:32].lstrip()[:1] == b"["
        is_text = DTYPES[spec.dtype].is_text
        count = math.prod(list(shape))
        commas = text.count(b",")
        # Before anything is decoded: the time that a long list takes is not worth a bad request.
        if not is_text and count and commas + 1 != count:
            check_count(spec, commas + 1, shape)
        if commas > MOST_STRINGS and (is_text or not count):
            raise InvalidInputError(f"{spec.name}: more than {MOST_STRINGS} strings")
        rank = len(shape) if nested else 1
        try:
            values = list_decoder(spec.dtype, rank, allow_nan=allow_nan).decode(text)
        except JSON_ERRORS as error:
            raise json_error(error, f"{spec.name}: data", text) from error
        array = from_lists(spec, values, rank)
        if nested and array.shape != shape:
            raise InvalidInputError(f"{spec.name}: the data has the shape {list(array.shape)}, not {list(shape)}")
        check_count(spec, array.size, shape)
        if allow_nan:
            refuse_infinite(spec, array)
        return array.reshape(shape)


def header_length(text: bytes | None, body: bytes) -> int:
    """How much of the body is JSON, from the header; all of it without one.

    Raises:
        MalformedRequestError: it is no number of bytes that the body has.
    """
    if text is None:
        return len(body)
    if not text.isdigit() or len(text) > 12 or not 0 < int(text) <= len(body):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length has to be a number from 1 to the {len(body)} bytes of the body"
        )
    return int(text)


def read_request(body: bytes, json_length: int, content_type: str = "") -> InferRequest:
    """The request in a body of which the first `json_length` bytes are JSON, in the charset of its content type.

    Raises:
        MalformedRequestError: not JSON, or the binary data is not as long as it says.
        InvalidInputError: the JSON is no request.
    """
    request = _parse(as_utf8(body if json_length == len(body) else body[:json_length], content_type))
    binary = memoryview(body)[json_length:]
    inputs: list[InferInput] = []
    start = 0
    for given in request.inputs:
        parameters = _read_parameters(given.parameters)
        data, size = _data(given, parameters, binary[start:])
        start += size
        inputs.append(InferInput(given.name, given.datatype, given.shape, parameters, data))
    if start != len(binary):
        raise MalformedRequestError(f"there are {len(binary) - start} bytes after the JSON that belong to no input")
    parameters = _read_parameters(request.parameters)
    all_binary = _flag(parameters, "binary_data_output", default=False)
    outputs = [
        InferOutput(
            output.name,
            own := _read_parameters(output.parameters),
            _flag(own, "binary_data", default=all_binary),
        )
        for output in request.outputs or ()
    ]
    return InferRequest(inputs, outputs, parameters, request.id, all_binary)


def _parse(text: bytes) -> _Request:
    if not text:
        raise MalformedRequestError("the body is empty; an inference request is required")
    # The second is counted because strings of a tensor may have colons in them.
    if len(text) > _LARGE_BYTES and text.count(b":") > _MOST_MEMBERS and len(_members(text)) > _MOST_MEMBERS:
        raise InvalidInputError("the request has more members than any request needs; send binary data")
    try:
        return _decode(text)
    except JSON_ERRORS as error:
        raise json_error(error, "the request", text) from error


def _read_parameters(given: _Parameters | None) -> Parameters:
    return {name: _read_parameter(text) for name, text in given.items()} if given else _NO_PARAMETERS


def _read_parameter(text: msgspec.Raw) -> Any:
    try:
        return _decode_parameter(text)
    except JSON_ERRORS:
        return _OTHER


def _data(given: _Input, parameters: Parameters, binary: memoryview) -> tuple[Data | None, int]:
    """The data of an input, and how much of `binary` is its own."""
    name = shortened(given.name)
    text = bytes(given.data)
    size = parameters.get("binary_data_size")
    if size is None:
        return (None if text == b"null" else JsonData(text)), 0
    if text != b"null":
        raise InvalidInputError(f"{name}: data and the parameter binary_data_size are given; one is enough")
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 <= size <= len(binary) or size != int(size):
        raise MalformedRequestError(
            f"{name}: binary_data_size has to be a number of bytes, of which {len(binary)} are left after the JSON"
        )
    return BinaryData(binary[: int(size)]), int(size)


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidInputError(f"the parameter {name} has to be true or false")
    return value


def read_index_request(body: bytes, content_type: str = "") -> bool:
    """Whether only models that are ready are asked for.

    Raises:
        MalformedRequestError: the body is neither empty nor such an object.
    """
    try:
        return bool(body) and bool(_decode_index(as_utf8(body, content_type)).ready)
    except JSON_ERRORS as error:
        raise MalformedRequestError('the body has to be empty or such as {"ready": true}') from error


class Body(NamedTuple):
    """Of an answer; `json_length` says how much of it is JSON, where binary data follows."""

    content: bytes
    json_length: int | None


def write_response(response: InferResponse) -> Body:
    """The body of an answer."""
    answer: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id is not None:
        answer["id"] = response.id
    parts: list[bytes] = []
    outputs = answer["outputs"] = []
    for output in response.outputs:
        array = output.array
        described: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(array.shape),
        }
        if output.binary:
            part = to_binary(array)
            described["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            described["data"] = as_texts(array) if array.dtype == object else array.ravel().tolist()
        outputs.append(described)
    document = encode(answer)
    if not parts:
        return Body(document, None)
    return Body(b"".join([document, *parts]), len(document))
