"""An inference request of the Open Inference Protocol, from bytes to what a model takes.

The body is JSON, or JSON of the length that the header `Inference-Header-Content-Length` says, with the data of those
inputs after it that have the parameter `binary_data_size`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError, MalformedRequestError
from serving.protocols.served_models import PROBABILITIES, ServedModel, Values
from serving.store.models import TensorSpec

DATATYPES = {"float32": "FP32", "uint8": "UINT8", "bytes": "BYTES"}
"""What the protocol calls the dtypes of tensors."""
HEADER_LENGTH = "inference-header-content-length"
_LARGE_BYTES = 65_536
_MOST_STRUCTURE = 4_096
"""Objects and members in a large header. Decoding a body of nothing but those takes a second and holds up everybody."""
_MOST_NUMBERS = 1_000_000
"""Numbers of a tensor in JSON: three images. Binary data has no such limit."""
_LENGTH_BYTES = 4

Parameters = dict[str, str | float | bool | None]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Length = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Input(msgspec.Struct):
    name: str
    shape: Annotated[list[_Length], msgspec.Meta(max_length=16)]
    datatype: str
    parameters: Parameters = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Output(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: Parameters = {}


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Input], msgspec.Meta(min_length=1, max_length=16)]
    id: str | None = None
    parameters: Parameters = {}
    outputs: Annotated[list[Output], msgspec.Meta(max_length=16)] | None = None


class WantedOutput(msgspec.Struct, frozen=True):
    """One output of the answer: `classes` asks for so many labels with their probabilities instead of the tensor."""

    name: str
    binary: bool
    classes: int = 0


class InferRequest(msgspec.Struct, frozen=True):
    """What was asked for; `values` are what the model takes, judged by shape but not by value."""

    values: Values
    outputs: list[WantedOutput]
    id: str | None


_decode = msgspec.json.Decoder(_Request).decode
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "float32": msgspec.json.Decoder(list[float]),
    "uint8": msgspec.json.Decoder(list[_Byte]),
}
_NESTED: dict[tuple[str, int], msgspec.json.Decoder[Any]] = {
    ("float32", 2): msgspec.json.Decoder(list[list[float]]),
    ("uint8", 4): msgspec.json.Decoder(list[list[list[list[_Byte]]]]),
}
_decode_texts = msgspec.json.Decoder(list[str]).decode
_decode_text_column = msgspec.json.Decoder(list[tuple[str]]).decode


def header_length(text: bytes | str | None, body: bytes) -> int:
    """How much of the body is JSON, from the header; all of it without one.

    Raises:
        MalformedRequestError: it is no number of bytes that the body has.
    """
    if text is None:
        return len(body)
    if not text.isascii() or not text.isdigit() or len(text) > 12 or not 0 < int(text) <= len(body):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length has to be a number from 1 to the {len(body)} bytes of the body"
        )
    return int(text)


def read_request(body: bytes, json_length: int, model: ServedModel) -> InferRequest:
    """The request in a body of which the first `json_length` bytes are JSON.

    Raises:
        MalformedRequestError: not JSON, or the binary data is not as long as it says.
        InvalidInputError: the JSON is no request, or not one for this model.
    """
    request = _parse(body if json_length == len(body) else body[:json_length])
    values = _read_values(request, memoryview(body)[json_length:], model)
    return InferRequest(values, _wanted_outputs(request, model), request.id)


def _parse(text: bytes) -> _Request:
    if not text:
        raise MalformedRequestError("the body is empty; an inference request is required")
    if len(text) > _LARGE_BYTES and (text.count(b"{") > _MOST_STRUCTURE or text.count(b":") > _MOST_STRUCTURE):
        raise InvalidInputError("the request has more objects or members than any request needs")
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        raise InvalidInputError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequestError(f"the request is not valid JSON: {error}") from error
    except RecursionError as error:
        raise MalformedRequestError("the request is nested too deeply") from error


def _read_values(request: _Request, binary: memoryview, model: ServedModel) -> Values:
    names = [given.name for given in request.inputs]
    spec, given = _choose_input(request, model)
    if len(names) > 1:
        raise InvalidInputError(f"inputs: one of {_names(model.inputs)} is required, not {len(names)} inputs")
    _check_shape(spec, given.shape)
    size = given.parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise MalformedRequestError(f"there are {len(binary)} bytes after the JSON that belong to no input")
        if not isinstance(given.data, msgspec.Raw):
            raise InvalidInputError(f"{spec.name}: data or the parameter binary_data_size is required")
        return _from_json(spec, given.shape, bytes(given.data))
    if isinstance(given.data, msgspec.Raw):
        raise InvalidInputError(f"{spec.name}: data and the parameter binary_data_size are given; one is enough")
    if isinstance(size, bool) or not isinstance(size, int | float) or size != len(binary):
        raise MalformedRequestError(
            f"{spec.name}: binary_data_size is not {len(binary)}, the number of bytes after the JSON"
        )
    return _from_binary(spec, given.shape, binary)


def _choose_input(request: _Request, model: ServedModel) -> tuple[TensorSpec, _Input]:
    """The model's input that is meant, and what is given for it."""
    given = request.inputs[0]
    specs = [spec for spec in model.inputs if spec.name == given.name]
    if not specs:
        raise InvalidInputError(f"inputs: unexpected name {given.name[:64]!r}; the model has {_names(model.inputs)}")
    # Pixels are also understood under the name of the images.
    spec = next((spec for spec in model.inputs if DATATYPES[spec.dtype] == given.datatype), None)
    if spec is None or (spec is not specs[0] and specs[0].dtype != "bytes"):
        raise InvalidInputError(
            f"{given.name}: the datatype has to be {DATATYPES[specs[0].dtype]}, not {given.datatype[:16]!r}"
        )
    return spec, given


def _check_shape(spec: TensorSpec, shape: list[int]) -> None:
    # Clients of models with a batch dimension send strings as a column.
    if spec.dtype == "bytes" and len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    fits = len(shape) == len(spec.shape) and all(
        length > 0 if expected is None else length == expected
        for length, expected in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("N" if length is None else str(length) for length in spec.shape)
        raise InvalidInputError(f"{spec.name}: the shape {str(shape)[:100]} is not [{expected}] with N > 0")


def _from_json(spec: TensorSpec, shape: list[int], data: bytes) -> Values:
    """Row-major, flat or nested as the shape."""
    count = math.prod(shape)
    nested = data[1:32].lstrip()[:1] == b"["
    try:
        if spec.dtype == "bytes":
            if count > _LARGE_BYTES or data.count(b",") > _LARGE_BYTES:
                raise InvalidInputError(f"{spec.name}: more strings than any request may have")
            texts = [text for (text,) in _decode_text_column(data)] if nested else _decode_texts(data)
            found = len(texts)
        else:
            # Before anything is decoded: the time that a long list of numbers takes is not worth a bad request.
            if count > _MOST_NUMBERS:
                raise InvalidInputError(f"{spec.name}: more than {_MOST_NUMBERS} numbers in JSON; send binary data")
            found = data.count(b",") + 1
            if found == count:
                return _numbers(spec, shape, data, nested=nested)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"{spec.name}: data: {error}") from error
    except (UnicodeError, RecursionError) as error:
        raise InvalidInputError(f"{spec.name}: the data cannot be read") from error
    if found != count:
        raise InvalidInputError(f"{spec.name}: the shape has {count} elements, the data {found}")
    return [text.encode() for text in texts]


def _numbers(spec: TensorSpec, shape: list[int], data: bytes, *, nested: bool) -> NDArray[Any]:
    decoder: msgspec.json.Decoder[Any] = _NESTED[spec.dtype, len(shape)] if nested else _FLAT[spec.dtype]
    numbers = decoder.decode(data)
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which the model refuses
            array = np.array(numbers, spec.dtype)
    except ValueError as error:
        raise InvalidInputError(f"{spec.name}: the lists of the data are not equally long") from error
    if array.shape != (tuple(shape) if nested else (math.prod(shape),)):
        raise InvalidInputError(f"{spec.name}: the data has the shape {list(array.shape)}, not {shape}")
    return array.reshape(shape)


def _from_binary(spec: TensorSpec, shape: list[int], binary: memoryview) -> Values:
    count = math.prod(shape)
    if spec.dtype == "bytes":
        return read_elements(spec.name, count, binary)
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    if count * dtype.itemsize != len(binary):
        raise InvalidInputError(f"{spec.name}: the shape has {count * dtype.itemsize} bytes, the data {len(binary)}")
    return np.frombuffer(binary, dtype).reshape(shape).astype(spec.dtype, copy=False)


def read_elements(name: str, count: int, binary: memoryview) -> list[bytes]:
    """The elements of a BYTES tensor: each has its length before it, four bytes in little-endian order.

    Raises:
        InvalidInputError: there are not `count` of them, or the last one is cut off.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(binary) and len(elements) < count:
        body = start + _LENGTH_BYTES
        end = body + int.from_bytes(binary[start:body], "little")
        if end > len(binary):
            raise InvalidInputError(f"{name}: element {len(elements)} is cut off")
        elements.append(bytes(binary[body:end]))
        start = end
    if start != len(binary) or len(elements) != count:
        raise InvalidInputError(f"{name}: the shape has {count} elements, the data has not")
    return elements


def _wanted_outputs(request: _Request, model: ServedModel) -> list[WantedOutput]:
    binary = _flag(request.parameters, "binary_data_output", default=False)
    classes = _classes(request.parameters)
    if not request.outputs:
        return [WantedOutput(spec.name, binary, classes if spec.name == PROBABILITIES else 0) for spec in model.outputs]
    wanted: list[WantedOutput] = []
    for output in request.outputs:
        if all(output.name != spec.name for spec in model.outputs):
            raise InvalidInputError(
                f"outputs: unexpected name {output.name[:64]!r}; the model has {_names(model.outputs)}"
            )
        if any(output.name == other.name for other in wanted):
            raise InvalidInputError(f"outputs: {output.name} is asked for twice")
        own = _classes(output.parameters)
        if own and output.name != PROBABILITIES:
            raise InvalidInputError(f"outputs: classification is for {PROBABILITIES}, not for {output.name}")
        wanted.append(
            WantedOutput(
                output.name,
                _flag(output.parameters, "binary_data", default=binary),
                (own or classes) if output.name == PROBABILITIES else 0,
            )
        )
    return wanted


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"the parameter {name} has to be true or false")
    return value


def _classes(parameters: Parameters) -> int:
    value = parameters.get("classification", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise InvalidInputError("the parameter classification has to be a number of classes")
    return int(value)


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return " or ".join(spec.name for spec in specs)
