"""`tensorflow.TensorProto` and what models take and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError
from serving.grpc.messages import POOL, message
from serving.protocols.grpc_shapes import check_listed, check_shape
from serving.protocols.served_models import Values
from serving.store.models import TensorSpec

TensorProto = message("tensorflow.TensorProto")
TensorShapeProto = message("tensorflow.TensorShapeProto")
_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType")
DATA_TYPE: dict[str, int] = {
    dtype: _TYPES.values_by_name[name].number
    for dtype, name in {"float32": "DT_FLOAT", "uint8": "DT_UINT8", "bytes": "DT_STRING"}.items()
}
"""TensorFlow's number of each type that a model here takes."""
_LIST = {"float32": "float_val", "uint8": "int_val", "bytes": "string_val"}
# A shape is only a claim until the elements are there: these many are made of one.
_MOST_FILLED = 1 << 20
_MOST_STRINGS = 1 << 10


def decode(proto: Any, spec: TensorSpec) -> Values:
    """The elements of an input: an array of its shape, or the strings of a list.

    Raises:
        InvalidInputError: type, shape and number of elements do not agree with each other or with `spec`.
    """
    wanted = DATA_TYPE[spec.dtype]
    if proto.dtype != wanted:
        raise InvalidInputError(f"{spec.name}: expected {_type_name(wanted)}, not {_type_name(proto.dtype)}")
    if proto.tensor_shape.unknown_rank:
        raise InvalidInputError(f"{spec.name}: the shape is unknown")
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    count = check_shape(spec, shape)
    if spec.dtype == "bytes":
        return _strings(proto, spec, count)
    return _numbers(proto, spec, count).reshape(shape)


def _numbers(proto: Any, spec: TensorSpec, count: int) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if content := proto.tensor_content:
        if len(content) != count * dtype.itemsize:
            raise InvalidInputError(
                f"{spec.name}: tensor_content has {len(content)} bytes, the shape needs {count * dtype.itemsize}"
            )
        return np.frombuffer(content, dtype.newbyteorder("<"))
    given = getattr(proto, _LIST[spec.dtype])
    if len(given) > count:
        raise InvalidInputError(f"{spec.name}: there are {len(given)} elements, the shape needs {count}")
    check_listed(spec, len(given))
    values = np.array(given, np.float32 if dtype.kind == "f" else np.int64)
    if dtype.kind == "u" and len(values) and (values.min() < 0 or values.max() > np.iinfo(dtype).max):
        raise InvalidInputError(f"{spec.name}: a number does not fit into {dtype.name}")
    return _filled(values.astype(dtype, copy=False), spec, count)


def _filled(values: NDArray[Any], spec: TensorSpec, count: int) -> NDArray[Any]:
    """As TensorFlow does: a list that is too short goes on with its last element, an empty one is zeros."""
    if len(values) == count:
        return values
    if count > _MOST_FILLED:
        raise InvalidInputError(f"{spec.name}: there are {len(values)} elements, the shape needs {count}")
    last = values[-1] if len(values) else values.dtype.type(0)
    return np.concatenate([values, np.full(count - len(values), last)])


def _strings(proto: Any, spec: TensorSpec, count: int) -> list[bytes]:
    if proto.tensor_content:
        return _packed(spec.name, proto.tensor_content, count)
    given = len(proto.string_val)
    if given > count or (given < count and count > _MOST_STRINGS):
        raise InvalidInputError(f"{spec.name}: there are {given} elements, the shape needs {count}")
    values = list(proto.string_val)
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
