"""Named arrays, the one table of their dtypes, and their form as bytes.

**As bytes** (between processes and in the payloads of jobs): four bytes with the length of a header in little-endian
order, the header, then the data of the tensors in the header's order. The header is msgpack: a list with, for each
tensor, its name, dtype, shape and number of bytes. Numbers lie row-major in little-endian order, strings as one msgpack
list. Nothing is pickled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError, MalformedRequestError

Tensors = dict[str, NDArray[Any]]
"""Arrays by name. Where a model is batched all have the same first length."""

STRING = "string"
BYTES = "bytes"
"""Elements that are no text, such as image files. No graph takes it: a codec makes other tensors of it."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """One dtype as each side calls it.

    Attributes:
        name: ours, in metadata and settings; NumPy's where NumPy has one.
        numpy: of arrays; strings are `object` arrays of `str` (of `bytes` for BYTES).
        onnx: ONNX Runtime's name of a tensor of it; empty where there is none.
        open_inference: datatype of the Open Inference Protocol.
        tensorflow: name of `tensorflow.DataType`.
        is_text: strings or bytes.
        is_float: with a fraction, infinity and NaN.
    """

    name: str
    numpy: np.dtype[Any]
    onnx: str
    open_inference: str
    tensorflow: str
    is_text: bool
    is_float: bool


def _dtype(name: str, onnx: str, open_inference: str, tensorflow: str) -> Dtype:
    numpy = np.dtype(object) if name in (STRING, BYTES) else np.dtype(name)
    return Dtype(
        name,
        numpy,
        f"tensor({onnx})" if onnx else "",
        open_inference,
        f"DT_{tensorflow}",
        is_text=numpy.kind == "O",
        is_float=numpy.kind == "f",
    )


DTYPES: dict[str, Dtype] = {
    dtype.name: dtype
    for dtype in (
        _dtype("float16", "float16", "FP16", "HALF"),
        _dtype("float32", "float", "FP32", "FLOAT"),
        _dtype("float64", "double", "FP64", "DOUBLE"),
        _dtype("int8", "int8", "INT8", "INT8"),
        _dtype("int16", "int16", "INT16", "INT16"),
        _dtype("int32", "int32", "INT32", "INT32"),
        _dtype("int64", "int64", "INT64", "INT64"),
        _dtype("uint8", "uint8", "UINT8", "UINT8"),
        _dtype("uint16", "uint16", "UINT16", "UINT16"),
        _dtype("uint32", "uint32", "UINT32", "UINT32"),
        _dtype("uint64", "uint64", "UINT64", "UINT64"),
        _dtype("bool", "bool", "BOOL", "BOOL"),
        _dtype(STRING, "string", "BYTES", "STRING"),
        _dtype(BYTES, "", "BYTES", "STRING"),
    )
}
BY_ONNX: Mapping[str, Dtype] = {dtype.onnx: dtype for dtype in DTYPES.values() if dtype.onnx}


def strings(values: Iterable[Any], shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Strings (or bytes) as the `object` array that an engine takes; NumPy's own string dtypes cut and pad."""
    found = values if isinstance(values, list) else list(values)
    array = np.empty(len(found), object)
    array[:] = found
    return array if shape is None else array.reshape(shape)


def count(tensors: Tensors) -> int:
    """Rows of batched tensors: the first length of the first one."""
    return len(next(iter(tensors.values())))


def rows(tensors: Tensors, start: int, stop: int) -> Tensors:
    """Rows `start` to `stop` of batched tensors, as views."""
    return {name: array[start:stop] for name, array in tensors.items()}


def join(parts: list[Tensors]) -> Tensors:
    """Batched tensors one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split(tensors: Tensors, sizes: Sequence[int]) -> list[Tensors]:
    """The parts of batched tensors, as views; `sizes` are the numbers of rows of each, all rows together."""
    if len(sizes) == 1:
        return [tensors]
    stops = list(accumulate(sizes))
    return [rows(tensors, stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def name_of_dtype(array: NDArray[Any]) -> str:
    """Our name of an array's dtype. An `object` array is text unless its first element is bytes."""
    if array.dtype == object:
        return BYTES if array.size and isinstance(array.flat[0], bytes) else STRING
    return array.dtype.name


class _Header(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


_encode = msgspec.msgpack.encode
_decode_header = msgspec.msgpack.Decoder(list[_Header]).decode
_decode_strings: dict[str, Callable[[memoryview], list[Any]]] = {
    STRING: msgspec.msgpack.Decoder(list[str]).decode,
    BYTES: msgspec.msgpack.Decoder(list[bytes]).decode,
}
_MOST_DIMENSIONS = 16
_FEW = 32
NOT_FINITE = "the answer is not a finite number; the values are too large for this model, or not ones that it computes"
"""Why a row has no prediction whose outputs are infinite or NaN."""


def to_bytes(tensors: Tensors) -> bytes:
    """Tensors in the form that the module describes."""
    headers: list[_Header] = []
    parts: list[bytes] = []
    for name, array in tensors.items():
        dtype = name_of_dtype(array)
        if array.dtype == object:
            part = _encode(array.ravel().tolist())
        else:
            part = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        headers.append(_Header(name, dtype, array.shape, len(part)))
        parts.append(part)
    header = _encode(headers)
    return b"".join((len(header).to_bytes(4, "little"), header, *parts))


def from_bytes(content: bytes | memoryview) -> Tensors:
    """The tensors in `content`; numbers are read-only views of it.

    Raises:
        MalformedRequestError: it is not what `to_bytes` makes.
    """
    view = memoryview(content)
    start = 4 + int.from_bytes(view[:4], "little")
    if len(view) < 4 or start > len(view):
        raise MalformedRequestError("the tensors have no header")
    try:
        headers = _decode_header(view[4:start])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedRequestError("the header of the tensors cannot be read") from error
    tensors: Tensors = {}
    for header in headers:
        stop = start + header.size
        if header.size < 0 or stop > len(view):
            raise MalformedRequestError(f"the tensor {header.name[:64]} is cut off")
        if header.name in tensors:
            raise MalformedRequestError(f"the tensor {header.name[:64]} is there twice")
        tensors[header.name] = _array(header, view[start:stop])
        start = stop
    if start != len(view):
        raise MalformedRequestError("there are bytes after the last tensor")
    return tensors


def _array(header: _Header, data: memoryview) -> NDArray[Any]:
    dtype = DTYPES.get(header.dtype)
    name = header.name[:64]
    if dtype is None or len(header.shape) > _MOST_DIMENSIONS or any(length < 0 for length in header.shape):
        raise MalformedRequestError(f"the tensor {name} has a dtype or shape that there is not")
    if not dtype.is_text:
        if math.prod(header.shape) * dtype.numpy.itemsize != header.size:
            raise MalformedRequestError(f"the tensor {name} is not as long as its shape")
        return np.frombuffer(data, dtype.numpy.newbyteorder("<")).astype(dtype.numpy, copy=False).reshape(header.shape)
    try:
        values = _decode_strings[dtype.name](data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedRequestError(f"the strings of the tensor {name} cannot be read") from error
    if len(values) != math.prod(header.shape):
        raise MalformedRequestError(f"the tensor {name} is not as long as its shape")
    return strings(values, header.shape)


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no number is infinite or NaN."""
    # The sum of few numbers, which is not finite when any of them is not, is told several times quicker than by NumPy.
    if array.size <= _FEW and math.isfinite(sum(array.ravel().tolist())):
        return True
    return bool(np.isfinite(array).all())


def first_not_finite(tensors: Tensors) -> int | None:
    """The first row with a number that is infinite or NaN; `None` when there is none."""
    for array in tensors.values():
        if array.dtype.kind == "f" and not all_finite(array):
            if array.ndim == 0:
                return 0
            found = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            return int(found.argmax())
    return None


def check_finite(tensors: Tensors, place: str) -> None:
    """Refuse answers with numbers that are infinite or NaN: the input has overflowed inside the model, for example.

    Args:
        place: what the caller calls its rows, as `data`.

    Raises:
        InvalidInputError: names the row.
    """
    row = first_not_finite(tensors)
    if row is not None:
        raise InvalidInputError(f"{place}[{row}]: {NOT_FINITE}")
