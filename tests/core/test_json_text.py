"""JSON in the characters that programs write it in."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.errors import MalformedRequestError, UnsupportedMediaTypeError
from serving.core.json_text import as_utf8

DOCUMENT = {"größe": [5.1, "€ 5", "雪"]}
TEXT = json.dumps(DOCUMENT, ensure_ascii=False)


@pytest.mark.parametrize(
    "kind", ["", "application/json", "application/json; charset=UTF-8", "text/plain;charset=ascii"]
)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_the_text_says_itself_what_it_is(encoding: str, kind: str) -> None:
    assert as_utf8(TEXT.encode(encoding), kind) == TEXT.encode()


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE])
def test_a_byte_order_mark_of_the_other_order(mark: bytes) -> None:
    name = "utf-16-be" if len(mark) == 2 else "utf-32-be"
    assert as_utf8(mark + TEXT.encode(name), "application/json; charset=utf-16le") == TEXT.encode()


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("application/json;charset=ISO-8859-1", "latin-1"),
        ('application/json; x=y; Charset="latin1"', "latin-1"),
        ("text/plain; charset=windows-1252", "cp1252"),
        ("text/plain; charset=iso-8859-15", "iso-8859-15"),
    ],
)
def test_otherwise_its_charset_does(kind: str, encoding: str) -> None:
    text = '{"größe": "5"}'
    assert as_utf8(text.encode(encoding), kind) == text.encode()


@pytest.mark.parametrize("charset", ["punycode", "idna", "zlib", "rot13", "utf-7", "shift_jis", "x" * 500])
def test_another_charset_is_named(charset: str) -> None:
    with pytest.raises(
        UnsupportedMediaTypeError, match=f"charset {charset[:40]} is not supported; send UTF-8"
    ) as caught:
        as_utf8(b"{}", f"application/json; charset={charset}")
    assert len(caught.value.message) < 100


def test_text_that_is_not_in_its_charset_is_malformed() -> None:
    with pytest.raises(MalformedRequestError, match="the body is not valid JSON: not text in utf-16"):
        as_utf8("{}".encode("utf-16")[:-1])
    with pytest.raises(MalformedRequestError, match="the body is not valid JSON: not text in utf-16be"):
        as_utf8(b"{}{", "application/json; charset=utf-16be")


@given(st.binary() | st.text().map(lambda text: text.encode("utf-16", "surrogatepass")))
def test_anything_is_text_or_malformed(text: bytes) -> None:
    try:
        as_utf8(text)
    except MalformedRequestError:
        assert len(text) > 1
