"""`tensorflow.TensorProto` and what models take and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.api.served_models import Values
from serving.errors import InvalidInputError
from serving.grpc.messages import POOL, message
from serving.grpc.shapes import count_elements
from serving.models import TensorSpec

TensorProto = message("tensorflow.TensorProto")
TensorShapeProto = message("tensorflow.TensorShapeProto")
_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType")
DATA_TYPE: dict[str, int] = {
    dtype: _TYPES.values_by_name[name].number
    for dtype, name in {"float32": "DT_FLOAT", "uint8": "DT_UINT8", "bytes": "DT_STRING"}.items()
}
"""TensorFlow's number of each type that a model here takes."""
_LIST = {"float32": "float_val", "uint8": "int_val", "bytes": "string_val"}
_MOST_FILLED = 1 << 24
_MOST_STRINGS = 1 << 16


def decode(name: str, proto: Any, spec: TensorSpec) -> Values:
    """The elements of an input: an array of its shape, or the strings of a list.

    Raises:
        InvalidInputError: type, shape and number of elements do not agree with each other or with `spec`.
    """
    if proto.dtype != DATA_TYPE[spec.dtype]:
        raise InvalidInputError(f"{name}: expected {_type_name(DATA_TYPE[spec.dtype])}, not {_type_name(proto.dtype)}")
    if proto.tensor_shape.unknown_rank:
        raise InvalidInputError(f"{name}: the shape is unknown")
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    count = count_elements(name, shape)
    if len(shape) != len(spec.shape):
        raise InvalidInputError(f"{name}: the shape {shape} has {len(shape)} dimensions, not {len(spec.shape)}")
    if spec.dtype == "bytes":
        return _strings(name, proto, count)
    return _numbers(name, proto, count, np.dtype(spec.dtype)).reshape(shape)


def _numbers(name: str, proto: Any, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if content := proto.tensor_content:
        if len(content) != count * dtype.itemsize:
            raise InvalidInputError(
                f"{name}: tensor_content has {len(content)} bytes, the shape needs {count * dtype.itemsize}"
            )
        return np.frombuffer(content, dtype.newbyteorder("<"))
    given = getattr(proto, _LIST[dtype.name])
    if len(given) > count:
        raise InvalidInputError(f"{name}: there are {len(given)} elements, the shape needs {count}")
    values = np.array(given, np.float32 if dtype.kind == "f" else np.int64)
    if dtype.kind == "u" and len(values) and (values.min() < 0 or values.max() > np.iinfo(dtype).max):
        raise InvalidInputError(f"{name}: a number does not fit into {dtype.name}")
    return _filled(name, values.astype(dtype), count)


def _filled(name: str, values: NDArray[Any], count: int) -> NDArray[Any]:
    """As TensorFlow does: a list that is too short goes on with its last element, an empty one is zeros."""
    given = len(values)
    if given == count:
        return values
    # As if it were full, but one element in memory, when it is a single one: the shape is only a claim.
    if given <= 1:
        return np.broadcast_to(values[0] if given else values.dtype.type(0), count)
    if count > _MOST_FILLED:
        raise InvalidInputError(f"{name}: there are {given} elements, the shape needs {count}")
    return np.concatenate([values, np.broadcast_to(values[-1], count - given)])


def _strings(name: str, proto: Any, count: int) -> list[bytes]:
    if proto.tensor_content:
        return _packed(name, proto.tensor_content, count)
    values = list(proto.string_val)
    if len(values) > count or count > _MOST_STRINGS:
        raise InvalidInputError(f"{name}: there are {len(values)} elements, the shape needs {count}")
    return values + (values[-1:] or [b""]) * (count - len(values))


def _packed(name: str, content: bytes, count: int) -> list[bytes]:
    """The strings of `tensor_content`: all lengths as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    while len(lengths) < count:
        length = shift = 0
        while True:
            if at == len(content) or shift > 28:
                raise InvalidInputError(f"{name}: tensor_content does not hold {count} strings")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise InvalidInputError(f"{name}: tensor_content does not hold {count} strings")
    values = []
    for length in lengths:
        values.append(content[at : at + length])
        at += length
    return values


def _type_name(number: int) -> str:
    value = _TYPES.values_by_number.get(number)
    return value.name if value else f"type {number}"


def encode_floats(proto: Any, values: NDArray[np.float32]) -> None:
    """Fill in float32 of any shape, as a list: clients read `float_val` as often as they read the tensor."""
    proto.dtype = DATA_TYPE["float32"]
    _set_shape(proto.tensor_shape, values.shape)
    proto.float_val.extend(values.ravel().tolist())


def encode_strings(proto: Any, values: Sequence[str]) -> None:
    """Fill in a list of strings."""
    proto.dtype = DATA_TYPE["bytes"]
    _set_shape(proto.tensor_shape, (len(values),))
    proto.string_val.extend(value.encode() for value in values)


def _set_shape(proto: Any, shape: Sequence[int | None]) -> None:
    for length in shape:
        proto.dim.add(size=-1 if length is None else length)


def describe(proto: Any, spec: TensorSpec, *, name: str) -> None:
    """Fill in a `tensorflow.TensorInfo`."""
    proto.name = name
    proto.dtype = DATA_TYPE[spec.dtype]
    _set_shape(proto.tensor_shape, spec.shape)
