"""Which bodies are taken for JSON."""

from __future__ import annotations

import asyncio

import pytest

from serving.codecs.json_body import read_json
from serving.core.errors import UnsupportedMediaTypeError
from tests.codecs.models import make_request


def read(body: bytes, kind: str | None) -> bytes:
    return asyncio.run(read_json(make_request(body, kind)))


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        "text/json",
        "application/x+json",
        "",
        None,
    ],
)
@pytest.mark.parametrize("body", [b"{}", b"", b"nonsense"])
def test_a_body_is_json_where_it_is_said_to_be_or_nothing_is_said(body: bytes, kind: str | None) -> None:
    assert read(body, kind) == body


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
def test_where_the_type_says_nothing_the_body_does(kind: str) -> None:
    for body in (b"{}", b" \r\n{", b""):
        assert read(body, kind) == body
    with pytest.raises(UnsupportedMediaTypeError, match=f"content type {kind} is not supported; send application/json"):
        read(b"data=1", kind)


@pytest.mark.parametrize("kind", ["text/html", "image/png", "application/vnd.bentoml+pickle", "multipart/form-data"])
def test_what_is_said_to_be_something_else_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="send application/json"):
        read(b"{}", kind)
