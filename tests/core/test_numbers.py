"""Values written as text are read as JSON reads them."""

from __future__ import annotations

import json
import math
import re

import pytest

from serving.core.columns import FLOAT_MAX
from serving.core.numbers import NUMBER, read_value
from serving.core.tensors import DTYPES

NUMBERS = ["0", "-0", "5", "5.0", "-3", "5.1", "1e-7", "1E+2", "0.5e0", "10", "1e-400", "9007199254740993"]
NO_NUMBERS = [
    *("5_1", "+5", "0x1", "1e", "e1", ".5", "5.", "05", "-", "--1", "1 2", "5,1", "1.5.2", "5\n", "\v5", "\xa05"),
    *("٥", "５", "五", "²", "−5", "1e５", "?", "naan", "inf", "-Infinity", "1f", "1j", "true", "x" * 99),
]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_what_json_calls_one(text: str) -> None:
    assert re.fullmatch(NUMBER, text)
    for padded in (text, f" {text}", f"\t{text} \t"):
        found = read_value(padded, "float64")
        assert found == float(json.loads(text))
        assert isinstance(found, float)
        assert math.copysign(1, found) == math.copysign(1, float(text))


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("text", NO_NUMBERS)
def test_everything_else_is_refused_with_the_text(text: str, dtype: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is not a number: [a-z0-9].*") as caught:
        read_value(text, dtype)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("٥", "its digits have to be 0 to 9"),
        ("?", "a missing value is an empty one, or NA"),
        ("-inf", "numbers have to be finite"),
        ("5_1", "write it as JSON does, such as 5.1"),
    ],
)
def test_the_sentence_says_what_to_change(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_value(text, "float32")


@pytest.mark.parametrize(
    ("text", "dtype", "value"),
    [
        ("5.0", "int8", 5),
        ("1e2", "int8", 100),
        ("-128", "int8", -128),
        ("9007199254740993", "int64", 2**53 + 1),
        ("-9223372036854775808", "int64", -(2**63)),
        ("18446744073709551615", "uint64", 2**64 - 1),
        ("-0", "uint8", 0),
    ],
)
def test_whole_numbers(text: str, dtype: str, value: int) -> None:
    found = read_value(text, dtype)
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize(
    ("text", "dtype", "words"),
    [
        ("5.5", "int64", "'5.5' is not a whole number"),
        ("1e-1", "int8", "'1e-1' is not a whole number"),
        ("128", "int8", "'128' is not within -128 to 127, as int8 is"),
        ("-1", "uint8", "'-1' is not within 0 to 255"),
        ("9223372036854775808", "int64", "is not within"),
        ("18446744073709551616", "uint64", "is not within"),
        ("1e400", "int64", "is not within"),
        ("9" * 5000, "int64", "is not within"),
        ("1e400", "float64", "'1e400' is too large for float64"),
        ("-1e39", "float32", "'-1e39' is too large for float32"),
        ("65505", "float16", "too large for float16"),
    ],
)
def test_numbers_that_do_not_fit(text: str, dtype: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        read_value(text, dtype)


def test_the_largest_float_of_each_dtype_fits() -> None:
    for dtype, most in FLOAT_MAX.items():
        assert read_value(repr(-most), dtype) == -most


def test_booleans_and_text() -> None:
    assert [read_value(text, "bool") for text in ("true", " TRUE", "1", "False", "0\t")] == [True] * 3 + [False] * 2
    for text in ("yes", "2", "1.0", "t", "ｔｒｕｅ"):
        with pytest.raises(ValueError, match="neither true nor false"):
            read_value(text, "bool")
    for text in ("", " a ", "5_1", "nan"):
        assert read_value(text, "string") == text


@pytest.mark.parametrize("text", ["", " ", "\t", "NA", "n/a", "#N/A", "<NA>", "nan", " NaN ", "NULL", "None"])
def test_an_empty_value_and_what_others_write_for_it_is_missing(text: str) -> None:
    assert [read_value(text, dtype) for dtype in DTYPES if not DTYPES[dtype].is_text] == [None] * 12
