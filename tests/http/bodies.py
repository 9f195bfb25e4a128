"""Hypothesis strategies for request bodies of the iris routes, right and wrong."""

from __future__ import annotations

import json

from hypothesis import strategies as st

# Written as they stand in the body: what `json.dumps` would never write, and where float32 and float64 end.
NUMBERS = [
    "0", "-0", "0.0", "-0.0", "1", "5.1", "1e5", "1E+2", "1e-400", "-1e-400", "5e-324", "1e-46",
    "3.4028234663852886e38", "-3.4028234663852886e38", "3.4028235677973366e38", "3.4028234663852887e38",
    "3.402824e38", "1e39", "-1e39", "1e308", "1.7976931348623157e308", "1.8e308", "1e999", "-1e999",
    "340282346638528859811704183484516925440", "340282346638528859811704183484516925441", "9" * 38, "9" * 39,
    "9" * 400, "9" * 5000, "0.1" + "0" * 400 + "1", "9007199254740993", "16777217", "18446744073709551616",
    "1" + "0" * 400 + "e-400",
]  # fmt: skip
WRONG = [
    "NaN", "Infinity", "-Infinity", "nan", "inf", "null", "true", "false", '"5.1"', '""', "[]", "[1]", "{}", "01", "+1",
    ".5", "1.", "0x1", "1_000", "--1", "1e", '"\\ud800"', '"\\udc00\\ud800"', "'1'", "", "1 2", "\x00", "５", "1//",
    "/*1*/1",
]  # fmt: skip
VALID_BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'

numbers = st.one_of(
    st.sampled_from(NUMBERS),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 8).map(lambda value: f"{value:.1f}"),
    st.integers().map(str),
)
_values = st.one_of(numbers, numbers, numbers, numbers, numbers, st.sampled_from(WRONG))
_space = st.sampled_from(["", "", "", " ", "\n\t\r "])


def _list(items: list[str], space: str, end: str = "") -> str:
    return f"[{space}{f'{space},{space}'.join(items)}{end}{space}]"


right_rows = st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=6)
_rows = st.lists(st.lists(_values, min_size=3, max_size=5), max_size=4)
_four = st.lists(st.lists(_values, min_size=4, max_size=4), min_size=1, max_size=3)
_ends = st.sampled_from(["", "", "", "", "", ","])


@st.composite
def objects(draw: st.DrawFn) -> str:
    """JSON objects that are right, or nearly."""
    space, end = draw(_space), draw(_ends)
    rows = draw(st.one_of(right_rows, _four, _rows))
    data = _list([_list(row, space) for row in rows], space, end)
    key = draw(st.sampled_from(['"data"', '"data"', '"data"', '"data"', '"d\\u0061ta"', '"Data"', "data", '"data "']))
    before, after = draw(st.sampled_from([("", "")] * 4 + [
        ('"data": [[1,2,3,4]], ', ""), ("", ', "data": [[1,2,3,4]]'), ("", ', "data": 1'), ("", ', "more": 1'),
        ('"\\ud800": 1,', ""), ("", ","),
    ]))  # fmt: skip
    start = draw(st.sampled_from(["", "", "", "", "\ufeff", " \n", "\x00", "//\n"]))
    tail = draw(st.sampled_from(["", "", "", "", " \n", "x", "{}", "\x00", "]"]))
    return f"{start}{{{space}{before}{key}:{space}{data}{after}}}{tail}"


_keys = st.sampled_from(["data", "more", ""]) | st.text()
_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=20,
)
_nested = st.builds(
    lambda depth, opening, closing: opening * depth + "1" + closing * depth,
    st.sampled_from([1, 2, 3, 4, 100, 1000, 20_000]),
    st.sampled_from(["[", '{"data":', '{"data":[']),
    st.sampled_from(["]", "}", "]}", ""]),
)


def _spoil(body: bytes, place: int, byte: int, kind: int) -> bytes:
    place %= len(body) + 1
    if kind == 0:
        return body[:place] + bytes([byte]) + body[place:]
    if kind == 1:
        return body[:place] + body[place + 1 :]
    return body[:place] + bytes([byte]) + body[place + 1 :]


right = right_rows.map(lambda rows: ('{"data":' + _list([_list(row, "") for row in rows], "") + "}").encode())
bodies = st.one_of(
    right,
    objects().map(str.encode),
    objects().map(str.encode),
    st.builds(_spoil, objects().map(str.encode), st.integers(0, 500), st.integers(0, 255), st.integers(0, 2)),
    _json.map(lambda value: json.dumps(value).encode()),
    _json.map(lambda value: json.dumps({"data": value}).encode()),
    st.lists(st.lists(st.floats(), min_size=4, max_size=4), max_size=3).map(lambda v: json.dumps({"data": v}).encode()),
    objects().map(lambda text: text.encode("utf-16")),
    _nested.map(str.encode),
    st.text().map(str.encode),
    st.binary(),
    st.just(b""),
)
