"""Tensors that clients write down: judged before anything is allocated or converted for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.codecs.columns import value_type
from serving.core.errors import InvalidInputError, MalformedRequestError
from serving.core.signature import TensorSpec
from serving.core.tensors import BYTES, DTYPES, STRING, strings
from serving.core.validation import not_json, shortened

MOST_LISTED = 1_000_000
"""Numbers in the lists of one request: three images. They are converted one by one, which holds up everybody; bytes are
not."""
MOST_STRINGS = 65_536
"""Strings in one request."""
_MOST_NAMES = 5
JSON_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)


def check_shape(spec: TensorSpec, shape: Sequence[int], *, has_rows: bool) -> tuple[int, ...]:
    """The shape that the model takes.

    One value for each row may come as a column `[N, 1]` where `[N]` is required, and the other way round: Triton's
    models have no row without a dimension of its own, so that its clients send columns.

    Raises:
        InvalidInputError: it is not the shape that the model takes.
    """
    found = tuple(shape)
    if found and spec.fits(found) and min(found) > 0:
        return found
    if has_rows and len(found) == 2 and len(spec.shape) == 1 and found[1] == 1:
        found = found[:1]
    elif has_rows and len(found) == 1 and spec.inner_shape == [1]:
        found = (*found, 1)
    if not spec.fits(found) or min(found, default=0) < 0 or (has_rows and found[0] == 0):
        least = " with N > 0" if has_rows else ""
        raise InvalidInputError(
            f"{spec.name}: the shape {str(list(shape))[:100]} is not {spec.describe_shape()}{least}"
        )
    return found


def check_listed(specs: Iterable[tuple[TensorSpec, int]]) -> None:
    """Refuse lists that are longer than any request needs.

    Args:
        specs: tensors that come as lists, each with the number of its elements.

    Raises:
        InvalidInputError: names the tensor that is too much.
    """
    numbers = texts = 0
    for spec, count in specs:
        if DTYPES[spec.dtype].is_text:
            texts += count
        else:
            numbers += count
        if numbers > MOST_LISTED:
            raise InvalidInputError(f"{spec.name}: more than {MOST_LISTED} numbers in lists; send binary data")
        if texts > MOST_STRINGS:
            raise InvalidInputError(f"{spec.name}: more than {MOST_STRINGS} strings")


def check_count(spec: TensorSpec, given: int, shape: Sequence[int]) -> None:
    """Raises InvalidInputError when there are more or fewer elements than the shape has."""
    count = math.prod(shape)
    if given != count:
        raise InvalidInputError(f"{spec.name}: there are {given} elements, the shape needs {count}")


def from_numbers(spec: TensorSpec, values: Sequence[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Numbers of the right type, in row-major order, as an array.

    Raises:
        InvalidInputError: a number does not fit into the dtype.
    """
    dtype = DTYPES[spec.dtype].numpy
    if dtype.kind in "iu":
        try:
            # NumPy would wrap what does not fit into a narrow type.
            wide = np.array(values, np.uint64 if dtype.kind == "u" else np.int64)
        except OverflowError as error:
            raise _does_not_fit(spec) from error
        info = np.iinfo(dtype)
        if wide.size and (int(wide.max()) > info.max or int(wide.min()) < info.min):
            raise _does_not_fit(spec)
        return wide.astype(dtype).reshape(shape)
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which the model refuses
            return np.array(values, dtype).reshape(shape)
    except OverflowError as error:
        raise _does_not_fit(spec) from error


def _does_not_fit(spec: TensorSpec) -> InvalidInputError:
    return InvalidInputError(f"{spec.name}: a number does not fit into {spec.dtype}")


def from_little_endian(spec: TensorSpec, data: bytes | memoryview, shape: Sequence[int]) -> NDArray[Any]:
    """Numbers in row-major order as they lie in memory; a read-only view of `data` where that is possible.

    Raises:
        InvalidInputError: the data is longer or shorter than the shape.
    """
    dtype = DTYPES[spec.dtype].numpy
    size = math.prod(shape) * dtype.itemsize
    if len(data) != size:
        raise InvalidInputError(f"{spec.name}: there are {len(data)} bytes, the shape needs {size}")
    if dtype.kind == "b":  # a byte that is neither 0 nor 1 is no boolean of NumPy's
        flags: NDArray[Any] = np.frombuffer(data, np.uint8) != 0
        return flags.reshape(shape)
    array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
    return array if array.flags.aligned else array.copy()


def from_texts(spec: TensorSpec, values: Sequence[str | bytes], shape: Sequence[int]) -> NDArray[Any]:
    """Strings as the engine takes them, `str`; `bytes` for files.

    Raises:
        InvalidInputError: bytes of a string are not UTF-8, or a text is not Unicode.
    """
    found: list[str | bytes] = []
    try:
        for value in values:
            if spec.dtype == BYTES:
                found.append(value.encode() if isinstance(value, str) else value)
            else:
                found.append(value if isinstance(value, str) else value.decode())
    except UnicodeError as error:
        raise InvalidInputError(f"{spec.name}: element {len(found)} is not text in UTF-8") from error
    return strings(found, tuple(shape))


def element_type(dtype: str, *, allow_nan: bool) -> Any:
    """The type of an element in JSON, for msgspec.

    Numbers beyond float32 and float16 become infinite, which is refused later: to judge them here would take longer.
    """
    if DTYPES[dtype].is_float:
        return float | None if allow_nan else float
    if dtype == "uint64":
        return Annotated[int, msgspec.Meta(ge=0)]  # msgspec knows no bound beyond int64; NumPy judges the other end
    return value_type(STRING if dtype == BYTES else dtype, allow_nan=allow_nan)


@cache
def list_decoder(dtype: str, rank: int, *, allow_nan: bool) -> msgspec.json.Decoder[Any]:
    """Decodes lists that are nested `rank` deep."""
    found: Any = element_type(dtype, allow_nan=allow_nan)
    for _ in range(rank):
        found = list[found]
    return msgspec.json.Decoder(found)


def flatten(spec: TensorSpec, value: Any, rank: int) -> tuple[list[Any], tuple[int, ...]]:
    """The elements of lists that are nested `rank` deep, and their shape.

    Raises:
        InvalidInputError: the lists are not equally long.
    """
    shape: list[int] = []
    values = [value]
    for _ in range(rank):
        lengths = {len(each) for each in values}
        if len(lengths) > 1:
            raise InvalidInputError(f"{spec.name}: the lists are not equally long")
        shape.append(lengths.pop() if lengths else 0)
        values = [inner for each in values for inner in each]
    return values, tuple(shape)


def from_lists(spec: TensorSpec, value: Any, rank: int) -> NDArray[Any]:
    """Lists of elements of the right type, nested `rank` deep, as an array; null is NaN.

    Raises:
        InvalidInputError: the lists are not equally long, or a number does not fit into the dtype.
    """
    dtype = DTYPES[spec.dtype]
    if dtype.is_text:
        values, shape = flatten(spec, value, rank)
        return from_texts(spec, values, shape)
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which the model refuses
            array: NDArray[Any] = np.array(value, dtype.numpy)
    except ValueError as error:
        raise InvalidInputError(f"{spec.name}: the lists are not equally long") from error
    except OverflowError as error:
        raise _does_not_fit(spec) from error
    if array.ndim < rank:  # an empty list says nothing of what it does not hold
        array = array.reshape([*array.shape, *([0] * (rank - array.ndim))])
    return array


def refuse_infinite(spec: TensorSpec, array: NDArray[Any]) -> None:
    """Refuse numbers in text that are beyond the dtype, for a model that takes missing values and so judges none."""
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise _does_not_fit(spec)


def as_little_endian(array: NDArray[Any]) -> bytes:
    """Numbers in row-major order as they lie in memory."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def as_bytes(array: NDArray[Any]) -> list[bytes]:
    """The elements of strings in row-major order, text as UTF-8."""
    return [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]


def as_texts(array: NDArray[Any]) -> list[str]:
    """The elements of strings in row-major order as JSON has them."""
    return [
        value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in array.ravel().tolist()
    ]


def json_error(error: Exception, what: str, text: bytes) -> InvalidInputError | MalformedRequestError:
    """What msgspec found wrong with `what`, which is `text`; `error` is one of `JSON_ERRORS`."""
    if isinstance(error, msgspec.ValidationError):
        return InvalidInputError(f"{what}: {error}")
    if isinstance(error, RecursionError):
        return MalformedRequestError(f"{what}: nested too deeply")
    return MalformedRequestError(f"{what}: {not_json(error, text)}")


def joined(names: Iterable[str]) -> str:
    """Some names, of the caller's choosing or of ours, as a message repeats them."""
    found = [shortened(name) for name in names]
    return ", ".join(found[:_MOST_NAMES]) + (
        f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    )
