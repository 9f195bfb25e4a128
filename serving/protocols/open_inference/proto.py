"""The tensors of the Open Inference Protocol's messages and what models take and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError
from serving.protocols.grpc_shapes import check_count, check_shape
from serving.protocols.open_inference.answer import write_elements
from serving.protocols.open_inference.request import read_elements
from serving.protocols.served_models import Values
from serving.store.models import TensorSpec

_LITTLE_ENDIAN: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "uint8": np.dtype("u1")}
_LIST = {"float32": "fp32_contents", "uint8": "uint_contents", "bytes": "bytes_contents"}


def decode(tensor: Any, raw: bytes | None, spec: TensorSpec) -> Values:
    """The elements of an input: an array of its shape, or the strings of a list.

    Args:
        tensor: an InferInputTensor of the datatype of `spec`.
        raw: its part of `raw_input_contents`, where the request has them.

    Raises:
        InvalidInputError: shape and number of elements do not agree with each other or with `spec`.
    """
    shape = list(tensor.shape)
    if spec.dtype == "bytes":
        # Clients of models with a batch dimension send strings as a column.
        count = check_shape(spec, shape[:1] if len(shape) == 2 and shape[1] == 1 else shape)
        if raw is not None:
            return read_elements(spec.name, count, memoryview(raw))
        check_count(spec, len(tensor.contents.bytes_contents), count)
        return list(tensor.contents.bytes_contents)
    count = check_shape(spec, shape)
    dtype = _LITTLE_ENDIAN[spec.dtype]
    if raw is None:
        values = getattr(tensor.contents, _LIST[spec.dtype])
        check_count(spec, len(values), count)
        return _typed(spec.name, values, np.dtype(spec.dtype)).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise InvalidInputError(f"{spec.name}: there are {len(raw)} bytes, the shape needs {count * dtype.itemsize}")
    return np.frombuffer(raw, dtype).reshape(shape)


def _typed(name: str, values: Sequence[float], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return np.array(values, dtype)
    numbers = np.array(values, np.int64)
    if numbers.max() > np.iinfo(dtype).max:
        raise InvalidInputError(f"{name}: a number does not fit into {dtype.name}")
    return numbers.astype(dtype)


def encode_floats(response: Any, name: str, values: NDArray[np.float32], *, raw: bool) -> None:
    """Add an output of float32."""
    output = response.outputs.add(name=name, datatype="FP32", shape=values.shape)
    if raw:
        response.raw_output_contents.append(np.ascontiguousarray(values, "<f4").tobytes())
    else:
        output.contents.fp32_contents.extend(values.ravel().tolist())


def encode_strings(response: Any, name: str, values: Sequence[str], shape: Sequence[int], *, raw: bool) -> None:
    """Add an output of BYTES."""
    output = response.outputs.add(name=name, datatype="BYTES", shape=shape)
    if raw:
        response.raw_output_contents.append(write_elements(values))
    else:
        output.contents.bytes_contents.extend(value.encode() for value in values)
