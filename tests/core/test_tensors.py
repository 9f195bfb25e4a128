"""Named arrays, and their form as bytes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError
from serving.core.tensors import (
    BY_ONNX,
    BYTES,
    DTYPES,
    NOT_FINITE,
    STRING,
    Tensors,
    check_finite,
    count,
    first_not_finite,
    from_bytes,
    join,
    name_of_dtype,
    rows,
    split,
    strings,
    to_bytes,
)
from tests.codecs.models import same

_shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
_numbers = st.sampled_from([name for name, dtype in DTYPES.items() if not dtype.is_text])


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of every dtype and shape, in any order in memory."""
    shape = draw(_shapes)
    kind = draw(_numbers | st.sampled_from([STRING, BYTES]))
    if kind in (STRING, BYTES):
        size = math.prod(shape)
        element: Any = st.text() if kind == STRING else st.binary()
        return strings(draw(st.lists(element, min_size=size, max_size=size)), shape)
    array = draw(hnp.arrays(DTYPES[kind].numpy, shape))
    order = draw(st.sampled_from(["C", "F", "reversed", "big"]))
    if order == "big":
        return array.astype(array.dtype.newbyteorder(">"))
    if order == "reversed":
        return array[::-1] if array.ndim else array
    return np.asarray(array, order=order)  # type: ignore[no-any-return, call-overload]


def native(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (
        array
        if array.dtype == object
        else np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    )


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.text(max_size=8), arrays(), max_size=4))
@example({})
@example({"": np.zeros((), np.float32)})
@example({"a/b.c": strings(["\x00", "😀"], (2, 1))})
def test_tensors_arrive_as_they_were(tensors: Tensors) -> None:
    content = to_bytes(tensors)
    for form in (content, memoryview(content), bytearray(content)):
        found = from_bytes(form)
        assert same(found, {name: native(array) for name, array in tensors.items()})
        assert all(array.dtype.isnative for array in found.values())


def test_empty_bytes_and_strings_are_told_apart_by_their_first_element() -> None:
    assert name_of_dtype(strings([b"x"])) == BYTES
    assert name_of_dtype(strings(["x"])) == STRING
    assert name_of_dtype(strings([])) == STRING


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
@example(b"")
@example(b"\x00\x00\x00\x00")
@example(b"\xff\xff\xff\xff")
@example((1).to_bytes(4, "little") + b"\x90")
@example((1).to_bytes(4, "little") + b"\x90x")
def test_any_bytes_are_tensors_or_an_error_of_ours(content: bytes) -> None:
    try:
        tensors = from_bytes(content)
    except MalformedRequestError:
        return
    assert to_bytes(tensors)


_GOOD = to_bytes(
    {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "text": strings(["a", "bc"], (2, 1)),
        "file": strings([b"\xff\xd8", b""]),
        "flag": np.array(True),
    }
)


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, len(_GOOD) - 1), st.integers(0, 255), st.sampled_from(["change", "remove", "insert", "cut"]))
def test_damaged_tensors_are_tensors_or_an_error_of_ours(place: int, byte: int, kind: str) -> None:
    content = {
        "change": _GOOD[:place] + bytes([byte]) + _GOOD[place + 1 :],
        "remove": _GOOD[:place] + _GOOD[place + 1 :],
        "insert": _GOOD[:place] + bytes([byte]) + _GOOD[place:],
        "cut": _GOOD[:place],
    }[kind]
    try:
        tensors = from_bytes(content)
    except MalformedRequestError as error:
        assert len(error.message) < 200  # noqa: PT017
        return
    assert kind != "cut"
    for array in tensors.values():
        assert array.size < 100


def with_header(headers: Any, data: bytes = b"") -> bytes:
    header = msgspec.msgpack.encode(headers)
    return len(header).to_bytes(4, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        with_header([["x", "float32", [2**62, 4], 0]]),
        with_header([["x", "float32", [-1, -1], 4]], bytes(4)),
        with_header([["x", "float32", [1], -4]], bytes(4)),
        with_header([["x", "float32", [1], 2**62]], bytes(4)),
        with_header([["x", "float32", [2], 4]], bytes(4)),
        with_header([["x", "float32", [1] * 17, 4]], bytes(4)),
        with_header([["x", "float32", [1.5], 4]], bytes(4)),
        with_header([["x", "object", [1], 8]], bytes(8)),
        with_header([["x", "O", [1], 8]], bytes(8)),
        with_header([["x", "str", [1], 4]], bytes(4)),
        with_header([["x", "string", [2], 2]], msgspec.msgpack.encode(["a"])),
        with_header([["x", "string", [1], 1]], b"\x91"),
        with_header([["x", "string", [1], 3]], msgspec.msgpack.encode([b"a"])),
        with_header([["x", "string", [1], 3]], b"\x91\xa1\xff"),
        with_header([["x", "bytes", [1], 3]], msgspec.msgpack.encode(["a"])),
        with_header([["x", "string", [1], 100_000]], b"\x91" * 100_000),
        with_header([["x", "float32", [1], 4]], bytes(5)),
        with_header([["x", "float32", [1]]], bytes(4)),
        with_header({"x": 1}),
        with_header("x"),
        with_header([["x" * 100_000, "nothing", [1], 4]], bytes(4)),
    ],
)
def test_headers_that_lie_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        from_bytes(content)
    assert len(caught.value.message) < 200


def test_a_huge_tensor_of_nothing_takes_no_memory() -> None:
    array = from_bytes(with_header([["x", "float32", [0, 2**40], 0]]))["x"]
    assert (array.shape, array.size) == ((0, 2**40), 0)


def test_a_tensor_that_is_there_twice_is_refused() -> None:
    header = ["x", "uint8", [1], 1]
    with pytest.raises(MalformedRequestError):
        from_bytes(with_header([header, header], b"ab"))


def test_what_is_read_cannot_be_changed_under_others() -> None:
    assert not from_bytes(to_bytes({"x": np.zeros(3, np.float32)}))["x"].flags.writeable


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_what_is_joined_is_split_again(sizes: list[int]) -> None:
    parts = [
        {"x": np.arange(size * 2, dtype=np.int64).reshape(size, 2), "t": strings([str(n) for n in range(size)])}
        for size in sizes
    ]
    whole = join(parts)
    assert count(whole) == sum(sizes)
    for part, found in zip(parts, split(whole, sizes), strict=True):
        assert same(found, part)
    assert same(rows(whole, 0, sizes[0]), parts[0])
    assert whole["t"].dtype == object


def test_one_part_is_not_copied() -> None:
    part = {"x": np.zeros(3)}
    assert join([part]) is part
    assert split(part, [3])[0] is part


def test_the_table_knows_every_name_once() -> None:
    """Names of ONNX Runtime, of the Open Inference Protocol and of TensorFlow lead to one dtype, but for text."""
    assert len(BY_ONNX) == len(DTYPES) - 1
    for attribute in ("open_inference", "tensorflow"):
        names = [getattr(dtype, attribute) for dtype in DTYPES.values() if dtype.name != BYTES]
        assert len(names) == len(set(names))
    for name, dtype in DTYPES.items():
        assert dtype.name == name
        assert dtype.is_text == (name in (STRING, BYTES))
        if not dtype.is_text:
            assert dtype.numpy == np.dtype(name)


def test_dtypes_are_those_of_onnx() -> None:
    from onnx import helper

    for dtype in BY_ONNX.values():
        if not dtype.is_text:
            element = helper.np_dtype_to_tensor_dtype(dtype.numpy)
            assert dtype.onnx == f"tensor({helper.tensor_dtype_to_string(element).rpartition('.')[2].lower()})"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_first_row_that_is_not_finite_is_found(dtype: str, value: float) -> None:
    array = np.ones((4, 2, 2), dtype)
    tensors: Tensors = {"whole": np.zeros(4, np.int64), "text": strings(["a"] * 4), "x": array}
    assert first_not_finite(tensors) is None
    check_finite(tensors, "data")
    array[2, 1, 0] = array[3, 0, 0] = value
    assert first_not_finite(tensors) == 2
    with pytest.raises(InvalidInputError, match=rf"^data\[2\]: {NOT_FINITE}$"):
        check_finite(tensors, "data")
    assert first_not_finite({"scalar": np.array(value, dtype)}) == 0


def test_errors_are_for_callers() -> None:
    assert issubclass(MalformedRequestError, ServingError)
