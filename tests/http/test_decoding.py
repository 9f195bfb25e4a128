"""From the body of a request to what the engines take."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError, UnsupportedMediaTypeError
from serving.http.decoding import FLOAT32_MAX, ImageBody, RankedImageBody, RowsDecoder, read_image, require_json
from tests.http.bodies import NUMBERS, VALID_BODY, WRONG, bodies, numbers, right

decoder = RowsDecoder(5)


def body_of(value: Any) -> bytes:
    return json.dumps({"data": value}).encode()


def refused(body: bytes, kind: type[ServingError] = InvalidInputError) -> ServingError:
    assert decoder.fast(body) is None
    with pytest.raises(kind) as caught:
        decoder.explain(body)
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
    quick = decoder.fast(body)
    try:
        rows = decoder.explain(body)
    except ServingError:
        assert quick is None
        return
    assert (rows.dtype, rows.shape[1]) == (np.float32, 4)
    assert np.isfinite(rows).all()
    if quick is not None:
        assert (quick.dtype, quick.shape, quick.tobytes()) == (rows.dtype, rows.shape, rows.tobytes())


@pytest.mark.parametrize("number", NUMBERS)
def test_every_way_to_write_a_number_means_the_same_to_both(number: str) -> None:
    body = f'{{"data": [[{number}, 1, 2, 3]]}}'.encode()
    quick = decoder.fast(body)
    try:
        rows = decoder.explain(body)
    except ServingError:
        assert quick is None
    else:
        assert quick is None or quick.tobytes() == rows.tobytes()
        assert rows[0, 0] == np.float32(float(number))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=4, max_size=4), min_size=1, max_size=5))
def test_what_is_right_takes_the_quick_way(rows: list[list[float]]) -> None:
    quick = decoder.fast(body_of(rows))
    assert quick is not None
    assert quick.tobytes() == np.array(rows, np.float32).tobytes()


@settings(max_examples=200, deadline=None)
@given(right, numbers)
def test_numbers_beyond_float32_are_refused_and_never_infinite(body: bytes, number: str) -> None:
    del body
    outside = abs(float(number)) > FLOAT32_MAX
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
        RowsDecoder(10_000).explain(flood)  # so many rows that it is not refused by its commas
    error = caught.value
    assert (error.message, error.details) == ("20000 fields or values are wrong", ())


def make_request(body: bytes, content_type: str | None, query: str = "") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    # Starlette raises another exception for a broken form outside an app.
    scope = {"type": "http", "app": None, "method": "POST", "headers": headers, "query_string": query.encode()}
    return Request(scope, receive)


def form(*parts: tuple[str, bytes, bool]) -> tuple[bytes, str]:
    """A multipart body of (name, content, is it a file) and its content type."""
    body = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (name.encode(), b"; filename=f" if file else b"", content)
        for name, content, file in parts
    )
    return body + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def read(
    body: bytes, content_type: str | None, query: str = "", body_type: type[ImageBody] = RankedImageBody
) -> tuple[bytes, int | None]:
    return asyncio.run(read_image(make_request(body, content_type, query), body_type))


# Every pair of bits and every length of padding: base64 and base64url differ in two characters of 64.
CONTENTS = [bytes(range(256)), b"\xfb\xef\xbe\xff\xff", b"\xfb\xef\xbe\xff", b"\xfb\xef\xbe", b"a"]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
def test_base64_in_both_alphabets_with_and_without_padding(content: bytes, encode: Any, padded: bool) -> None:
    text = encode(content).decode()
    text = text if padded else text.rstrip("=")
    assert read(json.dumps({"image": text}).encode(), "application/json") == (content, None)


@pytest.mark.parametrize(
    "text", ["a", "abc!", "ab cd", "ab\ncd", "äöüß", "abcde", "data:image/png;base64,aaaa", "\x00"]
)
def test_broken_base64(text: str) -> None:
    with pytest.raises(MalformedRequestError, match="not base64"):
        read(json.dumps({"image": text}).encode(), "application/json")


@settings(max_examples=300, deadline=None)
@given(st.one_of(bodies, st.text().map(lambda text: json.dumps({"image": text}).encode())))
def test_any_json_is_an_image_or_an_error_of_ours(body: bytes) -> None:
    try:
        content, top_k = read(body, "application/json")
    except ServingError:
        return
    assert content
    assert top_k is None or top_k >= 1


@settings(max_examples=200, deadline=None)
@given(
    st.binary() | st.binary().map(lambda inner: form(("image", inner, True))[0]), st.sampled_from(["edge", "other", ""])
)
def test_any_form_is_an_image_or_an_error_of_ours(body: bytes, boundary: str) -> None:
    try:
        content, _ = read(body, f"multipart/form-data; boundary={boundary}")
    except ServingError:
        return
    assert content


IMAGE = ("image", b"IMAGE", True)


@pytest.mark.parametrize(
    ("body", "content_type", "query", "expected"),
    [
        (*form(IMAGE), "", (b"IMAGE", None)),
        (*form(IMAGE, ("top_k", b"3", False)), "", (b"IMAGE", 3)),
        (*form(("top_k", b"3", False), IMAGE), "", (b"IMAGE", 3)),
        (*form(IMAGE), "top_k=4", (b"IMAGE", 4)),
        (b"IMAGE", "image/png", "", (b"IMAGE", None)),
        (b"IMAGE", "IMAGE/PNG; x=y", "top_k=4", (b"IMAGE", 4)),
        (b"IMAGE", "image/anything", "other=1", (b"IMAGE", None)),
        (b'{"image": "SU1BR0U", "top_k": 3}', "application/json", "", (b"IMAGE", 3)),
        (b'{"image": "SU1BR0U", "top_k": 3}', "application/json; charset=utf-8", "", (b"IMAGE", 3)),
        (b'{"image": "SU1BR0U"}', "Application/JSON", "top_k=4", (b"IMAGE", 4)),
    ],
)
def test_an_image_and_its_top_k(body: bytes, content_type: str, query: str, expected: tuple[bytes, int | None]) -> None:
    assert read(body, content_type, query) == expected


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "1e3", "NaN"])
@pytest.mark.parametrize("place", ["query", "form", "json"])
def test_a_wrong_top_k_is_named_wherever_it_stands(place: str, text: str) -> None:
    body, content_type, query = b"IMAGE", "image/png", f"top_k={text}"
    if place == "form":
        body, content_type = form(IMAGE, ("top_k", text.encode(), False))
        query = ""
    elif place == "json":
        body, content_type, query = (
            b'{"image": "SU1BR0U", "top_k": %b}' % (text or '""').encode(),
            "application/json",
            "",
        )
    with pytest.raises(ServingError) as caught:
        read(body, content_type, query)
    if isinstance(caught.value, InvalidInputError):
        assert _fields(caught.value) == ["top_k"]
        assert "top_k" in caught.value.message
    else:
        assert place == "json", "only broken JSON is malformed"


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [
        (*form(("top_k", b"3", False)), "image"),
        (*form(("image", b"text", False)), "image"),
        (*form(("picture", b"IMAGE", True)), "picture"),
        (*form(IMAGE, ("other", b"1", False)), "other"),
        (b"{}", "application/json", "image"),
        (b'{"image": ""}', "application/json", "image"),
        (b'{"image": 5}', "application/json", "image"),
        (b'{"image": null}', "application/json", "image"),
        (b'{"image": ["SU1BR0U"]}', "application/json", "image"),
        (b'{"image": "SU1BR0U", "url": "x"}', "application/json", "url"),
        (b'{"image": "SU1BR0U", "top_k": "3"}', "application/json", "top_k"),
        (b'{"image": "SU1BR0U", "top_k": true}', "application/json", "top_k"),
    ],
)
def test_missing_unknown_and_wrong_fields_are_named(body: bytes, content_type: str, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(body, content_type)
    assert _fields(caught.value) == [field]
    assert field in caught.value.message


WITH_TOP_K = [form(IMAGE, ("top_k", b"3", False)), (b'{"image": "SU1BR0U", "top_k": 3}', "application/json")]


@pytest.mark.parametrize(("body", "content_type"), WITH_TOP_K)
def test_top_k_may_be_given_once(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidInputError, match="top_k is in the query and in the body"):
        read(body, content_type, "top_k=3")


@pytest.mark.parametrize(("body", "content_type"), WITH_TOP_K)
def test_the_label_route_has_no_top_k_field(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidInputError, match="top_k"):
        read(body, content_type, body_type=ImageBody)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "image/png"),
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"", "multipart/form-data; boundary=edge"),
        (b"x", "multipart/form-data"),
        (b"not a form", "multipart/form-data; boundary=edge"),
        form(IMAGE, IMAGE),
        form(("image", b"", True)),
        form(IMAGE, ("top_k", b"1" * 100_000, False)),
        form(IMAGE, ("top_k", b"1", False), ("top_k", b"2", False)),
    ],
    ids=["no image", "no json", "json", "no form", "no boundary", "form", "two files", "empty file", "long", "many"],
)
def test_what_cannot_be_read_is_malformed(body: bytes, content_type: str) -> None:
    with pytest.raises((MalformedRequestError, InvalidInputError)) as caught:
        read(body, content_type)
    assert len(caught.value.message) < 200


def test_the_name_of_an_unknown_form_field_is_not_repeated_at_any_length() -> None:
    with pytest.raises(ServingError) as caught:
        read(*form(("x" * 50_000, b"1", False)))
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "", None]
)
def test_other_content_types_name_those_there_are(kind: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=r"multipart/form-data.*image/\*.*application/json"):
        read(b"x", kind)


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON", "application/json;charset=utf-8", "", None])
def test_rows_may_be_declared_as_json_or_not_at_all(kind: str | None) -> None:
    require_json(make_request(b"", kind))


@pytest.mark.parametrize("kind", ["text/plain", "text/json", "application/vnd.bentoml+pickle", "multipart/form-data"])
def test_rows_in_anything_else_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="send application/json"):
        require_json(make_request(b"", kind))


JUNK = {
    "rows of text": b'{"data":[' + b'["a"],' * 2_000_000 + b"[1,2,3,4]]}",
    "a long row": b'{"data":[[' + b"0," * 5_000_000 + b"1]]}",
    "right rows": b'{"data":[' + b"[1,2,3,4]," * 1_000_000 + b"[1,2,3,4]]}",
    "no end": b'{"data":[' + b"[]," * 3_000_000,
    "other fields": b'{"data":[[1,2,3,4]]' + b',"x":1' * 2_000_000 + b"}",
}


@pytest.mark.parametrize("name", JUNK)
def test_much_junk_is_refused_before_it_is_decoded(name: str) -> None:
    patient = RowsDecoder(1024)
    patient._decode = patient._model = None  # type: ignore[assignment]
    assert patient.fast(JUNK[name]) is None
    with pytest.raises(InvalidInputError) as caught:
        patient.explain(JUNK[name])
    assert caught.value.message == "data: more lists or values than 1024 rows of 4 numbers have"
    assert [detail.field for detail in caught.value.details] == ["data"]


def test_right_rows_may_be_written_at_length() -> None:
    rows = b",".join([b"[" + b" , ".join([b"1." + b"0" * 300] * 4) + b"]"] * 1024)
    body = b' { "data" : [' + rows + b"] } "
    assert len(body) > 1_000_000
    assert RowsDecoder(1024).explain(body).shape == (1024, 4)
    quick = RowsDecoder(1024).fast(body)
    assert quick is not None
    assert (quick == 1).all()
