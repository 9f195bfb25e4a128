"""Rows of a table, from the body of a request to what the engine takes, and from its outputs to the answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.codecs.rows import RowsCodec
from serving.core.columns import FLOAT_MAX
from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError
from tests.codecs.models import make_codec
from tests.http.bodies import NUMBERS, VALID_BODY, WRONG, bodies, numbers, right

codec = make_codec({"max_rows": 5})


def quick(body: bytes, codec: RowsCodec = codec) -> np.ndarray[Any, Any] | None:
    """What the quick decoder makes of a body; it leaves to the other what it does not read."""
    tensors = codec.read_fast(body)
    return None if tensors is None else tensors["features"]


def explained(body: bytes, codec: RowsCodec = codec) -> np.ndarray[Any, Any]:
    """What the decoder makes of it that says what is wrong."""
    return codec._explain(body)["features"]


def body_of(value: Any) -> bytes:
    return json.dumps({"data": value}).encode()


def refused(body: bytes, kind: type[ServingError] = InvalidInputError) -> ServingError:
    assert quick(body) is None
    with pytest.raises(kind) as caught:
        explained(body)
    return caught.value


@settings(max_examples=1000, deadline=None)
@given(bodies)
@example(VALID_BODY)
@example(b'{"data": [[1,2,3,4]], "data": [[5,6,7,8]]}')
@example(b'{"data": [[1,2,3,4]], "data": 5}')
@example(b'{"data": 5, "data": [[1,2,3,4]]}')
@example(b"\xef\xbb\xbf" + VALID_BODY)
@example(VALID_BODY.replace(b"5.1", b"\xff"))
@example(b'{"d\\u0061ta": [[1,2,3,4]]}')
@example(b"[" * 100_000)
def test_the_quick_decoder_agrees_with_the_explaining_one_or_leaves_it_to_it(body: bytes) -> None:
    fast = quick(body)
    try:
        rows = explained(body)
    except ServingError:
        assert fast is None
        return
    assert (rows.dtype, rows.shape[1]) == (np.float32, 4)
    assert np.isfinite(rows).all()
    if fast is not None:
        assert (fast.dtype, fast.shape, fast.tobytes()) == (rows.dtype, rows.shape, rows.tobytes())


@pytest.mark.parametrize("number", NUMBERS)
def test_every_way_to_write_a_number_means_the_same_to_both(number: str) -> None:
    body = f'{{"data": [[{number}, 1, 2, 3]]}}'.encode()
    fast = quick(body)
    try:
        rows = explained(body)
    except ServingError:
        assert fast is None
    else:
        assert fast is None or fast.tobytes() == rows.tobytes()
        assert rows[0, 0] == np.float32(float(number))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=4, max_size=4), min_size=1, max_size=5))
def test_what_is_right_takes_the_quick_way(rows: list[list[float]]) -> None:
    fast = quick(body_of(rows))
    assert fast is not None
    assert fast.tobytes() == np.array(rows, np.float32).tobytes()


@settings(max_examples=200, deadline=None)
@given(right, numbers)
def test_numbers_beyond_float32_are_refused_and_never_infinite(body: bytes, number: str) -> None:
    del body
    outside = abs(float(number)) > FLOAT_MAX["float32"]
    content = f'{{"data": [[0, 0, 0, {number}]]}}'.encode()
    if outside:
        refused(content, ServingError)


@pytest.mark.parametrize("value", WRONG)
def test_what_is_not_a_number_is_refused(value: str) -> None:
    refused(f'{{"data": [[{value}, 1, 2, 3]]}}'.encode(), ServingError)


def _fields(error: ServingError) -> list[str]:
    return [detail.field for detail in error.details]


def test_every_wrong_place_is_named() -> None:
    error = refused(b'{"data": [[1,2,3,4], [1,"x",3,null], [1,2,3], [1,2,3,1e39]], "extra": 1}')
    assert _fields(error) == ["data[1][1]", "data[1][3]", "data[2]", "data[3][3]", "extra"]
    assert error.message == "data[1][1]: Input should be a valid number (and 4 more)"


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (b"{}", "data", "Field required"),
        (b'{"rows": [[1,2,3,4]]}', "data", "Field required"),
        (body_of([]), "data", "at least 1 item"),
        (body_of([[1, 2, 3, 4]] * 6), "data", "at most 5 items"),
        (body_of([[1, 2, 3]]), "data[0]", "at least 4 items"),
        (body_of([[1, 2, 3, 4, 5]]), "data[0]", "at most 4 items"),
        (body_of([[1, 2, 3, 4], [1]]), "data[1]", "at least 4 items"),
        (body_of([["5.1", 2, 3, 4]]), "data[0][0]", "valid number"),
        (body_of([[True, 2, 3, 4]]), "data[0][0]", "valid number"),
        (body_of([[float("nan"), 2, 3, 4]]), "data[0][0]", "finite number"),
        (body_of([[float("inf"), 2, 3, 4]]), "data[0][0]", "finite number"),
        (body_of([1, 2, 3, 4]), "data[0]", "valid array"),
        (body_of("5.1"), "data", "valid array"),
        (body_of(None), "data", "valid array"),
        (b"[[1,2,3,4]]", "", "object"),
        (b"null", "", "object"),
        (b'"text"', "", "object"),
    ],
)
def test_wrong_values_say_where_and_what(body: bytes, field: str, says: str) -> None:
    error = refused(body)
    assert _fields(error)[0] == field
    assert says in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"{'data': 1}", b'{"data": [[1,2,3,4]],}', b"\xff", b"x" * 99, b"["])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    refused(body, MalformedRequestError)


SECRET = "hunter2-hunter2"  # noqa: S105 - it stands for what a caller would not like to see in a log


@pytest.mark.parametrize(
    "body",
    [
        body_of([[SECRET, 1, 2, 3]]),
        body_of(SECRET),
        json.dumps(SECRET).encode(),
        SECRET.encode(),
        b'{"data": ' + SECRET.encode(),
        body_of([[{SECRET: SECRET}, 1, 2, 3]]),
        f'{{"data": [["\\ud800{SECRET}"]]}}'.encode(),
    ],
)
def test_messages_never_repeat_the_input(body: bytes) -> None:
    error = refused(body, ServingError)
    assert SECRET not in error.message + str(error.details)


def test_the_name_of_an_unknown_field_is_shortened() -> None:
    error = refused(json.dumps({"data": [[1, 2, 3, 4]], "x" * 100_000: 1}).encode())
    assert len(error.message) < 200
    assert len(error.details[0].field) < 100


def test_a_flood_of_findings_is_summed_up() -> None:
    flood = json.dumps({"data": [[1, 2, 3, 4]], **{str(number): 1 for number in range(20_000)}}).encode()
    with pytest.raises(InvalidInputError) as caught:
        explained(flood, make_codec({"max_rows": 10_000}))  # so many rows that it is not refused by its commas
    error = caught.value
    assert (error.message, error.details) == ("20000 fields or values are wrong", ())


JUNK = {
    "rows of text": b'{"data":[' + b'["a"],' * 2_000_000 + b"[1,2,3,4]]}",
    "a long row": b'{"data":[[' + b"0," * 5_000_000 + b"1]]}",
    "right rows": b'{"data":[' + b"[1,2,3,4]," * 1_000_000 + b"[1,2,3,4]]}",
    "no end": b'{"data":[' + b"[]," * 3_000_000,
    "other fields": b'{"data":[[1,2,3,4]]' + b',"x":1' * 2_000_000 + b"}",
}


@pytest.mark.parametrize("name", JUNK)
def test_much_junk_is_refused_before_it_is_decoded(name: str) -> None:
    patient = make_codec()
    patient._decode_rows = patient._decode_records = patient._rows = patient._records = None
    assert quick(JUNK[name], patient) is None
    with pytest.raises(InvalidInputError) as caught:
        explained(JUNK[name], patient)
    assert caught.value.message == "data: more lists or values than 1024 rows of 4 numbers have"
    assert [detail.field for detail in caught.value.details] == ["data"]


def test_right_rows_may_be_written_at_length() -> None:
    rows = b",".join([b"[" + b" , ".join([b"1." + b"0" * 300] * 4) + b"]"] * 1024)
    body = b' { "data" : [' + rows + b"] } "
    assert len(body) > 1_000_000
    assert explained(body, make_codec()).shape == (1024, 4)
    fast = quick(body, make_codec())
    assert fast is not None
    assert (fast == 1).all()
