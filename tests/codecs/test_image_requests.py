"""Forms, bodies and texts with an image, as programs of many kinds send them."""

from __future__ import annotations

import asyncio
import base64
import textwrap
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.codecs.forms import Part, read_form
from serving.codecs.image_decoding import image_file
from serving.codecs.image_requests import read_image
from serving.core.base64_text import decode_base64
from serving.core.errors import InvalidImageError, MalformedRequestError
from tests.codecs.models import make_request
from tests.pictures import encoded, picture

JPEG = encoded(picture(), "JPEG")
TEXT = base64.b64encode(JPEG).decode()


def body(*lines: bytes, end: bytes = b"\r\n--e--\r\n") -> bytes:
    return b"\r\n".join([b"--e", *lines]) + end


# Named after the programs that write so.
FORMS = {
    "curl with a type and no file name": body(
        b'Content-Disposition: form-data; name="image"', b"Content-Type: image/jpeg", b"", JPEG
    ),
    "Node's form-data with a buffer": body(
        b'Content-Disposition: form-data; name="image"', b"Content-Type: application/octet-stream", b"", JPEG
    ),
    ".NET": body(
        b"Content-Type: image/jpeg",
        b"Content-Disposition: form-data; name=image; filename=cat.jpg; filename*=utf-8''cat.jpg",
        b"",
        JPEG,
    ),
    ".NET with a file name of its own only": body(
        b"Content-Disposition: form-data; name=image; filename*=utf-8''k%C3%A4tzchen.jpg", b"", JPEG
    ),
    "a browser": body(
        b'Content-Disposition: form-data; name="image"; filename="a \\"cat\\"; b.jpg"',
        b"Content-Type: image/jpeg",
        b"",
        JPEG,
    ),
    "headers in lower case": body(b'content-disposition:form-data;name="image";filename="c"', b"", JPEG),
    "a preamble and an epilogue": b"for old mail programs\r\n\r\n"
    + body(b'Content-Disposition: form-data; name="image"; filename="c"', b"", JPEG, end=b"\r\n--e--\r\nmore"),
    "no last line break": body(
        b'Content-Disposition: form-data; name="image"; filename="c"', b"", JPEG, end=b"\r\n--e--"
    ),
    "base64 as in mail": body(
        b'Content-Disposition: form-data; name="image"; filename="c"',
        b"Content-Transfer-Encoding: BASE64",
        b"",
        b"\r\n".join(line.encode() for line in textwrap.wrap(TEXT, 76)),
    ),
    "Content-Transfer-Encoding: binary": body(
        b'Content-Disposition: form-data; name="image"; filename="c"',
        b"Content-Transfer-Encoding: binary",
        b"",
        JPEG,
    ),
    "a canvas' data URL as field": body(
        b'Content-Disposition: form-data; name="image"', b"", f"data:image/jpeg;base64,{TEXT}".encode()
    ),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("boundary", ["e", '"e"'])
def test_the_file_in_a_form(name: str, boundary: str) -> None:
    request = make_request(FORMS[name], f"multipart/form-data; boundary={boundary}")
    assert asyncio.run(read_image(request, ranked=True)) == (JPEG, None)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (body(b'Content-Disposition: form-data; name="image"', b"", JPEG, end=b""), "it ends before its last boundary"),
        (
            body(b'Content-Disposition: form-data; name="image"', b"", JPEG, end=b"\r\n--e"),
            "it ends before its last boundary",
        ),
        (body(b"Content-Type: image/jpeg", b"", JPEG), "a part has no Content-Disposition with a name"),
        (
            body(
                b'Content-Disposition: form-data; name="image"',
                b"Content-Transfer-Encoding: quoted-printable",
                b"",
                b"=FF",
            ),
            "send the bytes as they are",
        ),
        (
            body(b'Content-Disposition: form-data; name="image"', b"Content-Transfer-Encoding: base64", b"", b"!"),
            "not base64",
        ),
        (b"", "it ends before its last boundary"),
    ],
)
def test_a_form_that_cannot_be_read(content: bytes, says: str) -> None:
    with pytest.raises(MalformedRequestError, match="the form cannot be read: ") as caught:
        read_form("multipart/form-data; boundary=e", content)
    assert says in caught.value.message


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["image", "top_k", "ä", "a;b"]), st.binary()), max_size=16), st.binary())
def test_what_is_written_is_read(parts: list[tuple[str, bytes]], preamble: bytes) -> None:
    boundary = "a-boundary-that-nobody-writes"
    lines = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary.encode(), name.encode(), content)
        for name, content in parts
    )
    content = b"%b\r\n%b--%b--\r\n" % (preamble, lines, boundary.encode())
    assert read_form(f"multipart/form-data; boundary={boundary}", content) == [Part(*part) for part in parts]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(FORMS.values())), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_form_is_read_or_an_error_of_ours(form: bytes, place: int, inserted: bytes, cut: int) -> None:
    with suppress(MalformedRequestError):
        read_form("multipart/form-data; boundary=e", form[:place] + inserted + form[place + cut :])


BODIES = {
    "the file": (JPEG, "image/jpeg"),
    "curl --data-binary": (JPEG, "application/x-www-form-urlencoded"),
    "a stream of bytes": (JPEG, "application/octet-stream"),
    "no type": (JPEG, None),
    "curl -d with JSON": (b'{"image": "%b"}' % TEXT.encode(), "application/x-www-form-urlencoded"),
    "JSON as text": (b' \n{"image": "%b"}' % TEXT.encode(), "text/plain; charset=utf-8"),
    "JSON of no type": (b'{"image": "%b"}' % TEXT.encode(), None),
    "a kind of JSON": (b'{"image": "%b"}' % TEXT.encode(), "application/problem+json"),
    "base64": (TEXT.encode() + b"\n", "text/plain"),
    "a data URL": (b"data:image/jpeg;base64," + TEXT.encode(), "text/plain"),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_file_in_a_body(name: str) -> None:
    content, kind = BODIES[name]
    assert asyncio.run(read_image(make_request(content, kind), ranked=True)) == (JPEG, None)


SAFE = base64.urlsafe_b64encode(JPEG).decode()
TEXTS = {
    "base64": TEXT,
    "base64url": SAFE,
    "without padding": SAFE.rstrip("="),
    "a data URL": f"data:image/jpeg;base64,{TEXT}",
    "a data URL with parameters": f"DATA:image/jpeg;name=cat.jpg;Base64,{TEXT}",
    "a data URL without a type": f"data:;base64,{TEXT}",
    "a data URL with escapes": "data:image/jpeg;base64," + TEXT.replace("+", "%2B").replace("=", "%3D"),
    "lines, as base64 and openssl print it": "\n".join(textwrap.wrap(TEXT, 76)) + "\n",
    "lines, as Java's MIME encoder writes it": "\r\n".join(textwrap.wrap(TEXT, 76)),
    "blanks around it": f"  {TEXT}\t\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_one_rule_for_base64(name: str) -> None:
    assert decode_base64(TEXTS[name]) == decode_base64(TEXTS[name].encode()) == JPEG
    # as an element of a tensor, or as a body
    assert image_file(TEXTS[name].encode()) == JPEG


@pytest.mark.parametrize("text", ["a", "abc!", "aa=aa", "ä", "data:image/svg+xml,%3Csvg", "data:;base64,a", "data:"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)


def test_a_data_url_of_text_is_no_image_in_a_tensor_either() -> None:
    with pytest.raises(InvalidImageError, match="a data URL with base64 is required"):
        image_file(b"data:image/svg+xml,%3Csvg")


def test_long_text_that_is_nearly_base64_is_judged_in_no_time() -> None:
    """A pattern with two ways to read a line break would try all of them."""
    almost = b"\r\n" * 1_000_000 + b"aaaa\r\n" * 100_000 + b"!"
    assert image_file(almost) == almost
