"""What a model takes and gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.core.errors import InvalidInputError
from serving.core.signature import Signature, TensorSpec
from serving.core.tensors import DTYPES, Tensors, strings
from tests.codecs.models import spec


def signature(*inputs: TensorSpec, batching: Any = "free") -> Signature:
    return Signature(inputs, (spec("y", "float32", None),), batching)


_lengths = st.lists(st.none() | st.integers(0, 3), max_size=3)
TWO = signature(spec("x", "float32", None, 2), spec("words", "string", None, None))
RIGHT: Tensors = {"x": np.zeros((3, 2), np.float32), "words": strings(["a"] * 6, (3, 2))}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x": None}, "the input x is missing; the model has x, words"),
        ({"more": np.zeros(1)}, "there is no input more; the model has x, words"),
        ({"y" * 1000: np.zeros(1)}, f"there is no input {'y' * 64}; the model has x, words"),
        ({"x": np.zeros((3, 2))}, "x: float32 is required, not float64"),
        ({"x": np.zeros((3, 2), np.int32)}, "x: float32 is required, not int32"),
        ({"x": strings(["a"] * 6, (3, 2))}, "x: float32 is required, not object"),
        ({"words": np.zeros((3, 2), np.float32)}, "words: string is required, not float32"),
        ({"words": np.array([["a"]] * 3)}, "words: string is required, not str32"),
        ({"x": np.zeros((3, 3), np.float32)}, "x: the shape [3, 3] is not [N, 2]"),
        ({"x": np.zeros(3, np.float32)}, "x: the shape [3] is not [N, 2]"),
        ({"x": np.zeros((), np.float32)}, "x: the shape [] is not [N, 2]"),
        ({"words": strings(["a"] * 3)}, "words: the shape [3] is not [N, M]"),
        ({"x": np.zeros((2, 2), np.float32)}, "words: 3 rows, where other inputs have 2"),
        ({"x": np.full((3, 2), np.nan, np.float32)}, "x[0][0]: a finite number is required"),
        ({"x": np.array([[0, 1], [2, np.inf], [0, 0]], np.float32)}, "x[1][1]: a finite number is required"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], says: str) -> None:
    tensors = {name: array for name, array in (RIGHT | changes).items() if array is not None}
    with pytest.raises(InvalidInputError) as caught:
        TWO.check(tensors, allow_nan=False)
    assert caught.value.message == says


def test_what_fits_passes() -> None:
    TWO.check(RIGHT, allow_nan=False)
    TWO.check(dict(reversed(RIGHT.items())), allow_nan=False)


def test_missing_values_pass_where_the_model_takes_them() -> None:
    TWO.check(RIGHT | {"x": np.full((3, 2), np.nan, np.float32)}, allow_nan=True)


def test_whole_numbers_and_strings_are_always_finite() -> None:
    signature(spec("x", "int64", None), spec("b", "bool", None)).check(
        {"x": np.zeros(2, np.int64), "b": np.array([True, False])}, allow_nan=False
    )


def test_tensors_without_rows_may_differ_in_length() -> None:
    tensors: Tensors = {"x": np.zeros((3, 2), np.float32), "state": np.zeros((2, 1), np.float32)}
    free = (spec("x", "float32", None, 2), spec("state", "float32", None, 1))
    signature(*free, batching="none").check(tensors, allow_nan=False)
    with pytest.raises(InvalidInputError, match="state: 2 rows, where other inputs have 3"):
        signature(*free).check(tensors, allow_nan=False)


def test_a_scalar_fits_a_scalar() -> None:
    scalar = signature(spec("sr", "int64"), batching="none")
    scalar.check({"sr": np.array(16000)}, allow_nan=False)
    with pytest.raises(InvalidInputError, match=r"sr: the shape \[1\] is not \[\]"):
        scalar.check({"sr": np.array([16000])}, allow_nan=False)


@pytest.mark.parametrize(
    ("batching", "rows", "varies"), [("free", True, False), ("one", True, False), ("none", False, False)]
)
def test_which_tensors_share_calls(batching: Any, rows: bool, varies: bool) -> None:
    found = signature(spec("x", "float32", None, 2), batching=batching)
    assert (found.has_rows, found.varies) == (rows, varies)
    assert signature(spec("x", "float32", None, None), batching=batching).varies


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([name for name in DTYPES if name != "bytes"]),
            st.lists(st.none() | st.integers(0, 3), max_size=3),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 3),
    st.sampled_from(["free", "one", "none"]),
)
def test_zeros_fit(inputs: list[tuple[str, list[int | None]]], rows: int, batching: Any) -> None:
    lead = [] if batching == "none" else [None]
    found = signature(
        *(spec(f"x{n}", dtype, *lead, *shape) for n, (dtype, shape) in enumerate(inputs)), batching=batching
    )
    zeros = found.zeros(rows)
    found.check(zeros, allow_nan=False)
    if found.has_rows:
        assert {len(array) for array in zeros.values()} == {rows}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 3), max_size=3),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
def test_a_shape_fits_where_each_length_does(declared: list[int | None], shape: tuple[int, ...]) -> None:
    expected = len(declared) == len(shape) and all(a in (None, b) for a, b in zip(declared, shape, strict=True))
    assert spec("x", "float32", *declared).fits(shape) == expected


def test_minus_one_in_the_store_is_any_length() -> None:
    found = TensorSpec.model_validate({"name": "x", "dtype": "float32", "shape": [-1, 3]})
    assert found.shape == [None, 3]
    assert found.inner_shape == [3]
    assert found.describe_shape() == "[N, 3]"
    assert spec("x", "float32", *[None] * 6).describe_shape() == "[N, M, K, L, ?, ?]"
