"""Bodies of multipart/form-data."""

from __future__ import annotations

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.core.base64_text import decode_base64
from serving.core.errors import MalformedRequestError

_MOST_PARTS = 16
_AS_IT_IS = (b"", b"7bit", b"8bit", b"binary")


class Part(NamedTuple):
    """A field or a file: programs leave the name of a file out, and give text one."""

    name: str
    content: bytes


def read_form(content_type: str, body: bytes) -> list[Part]:
    """The parts of a form, in their order.

    Raises:
        MalformedRequestError: says what is wrong with the form.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _unreadable("its content type has no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_part_data": reader.data,
                "on_part_end": reader.end_part,
                "on_end": reader.end,
            },
        )
        parser.write(body[_preamble(body, boundary) :])
    except FormParserError as error:
        raise _unreadable(str(error)) from error
    if not reader.complete:
        raise _unreadable("it ends before its last boundary")
    return reader.parts


def _preamble(body: bytes, boundary: bytes) -> int:
    """How much stands before the first boundary, which is to be ignored (RFC 2046, section 5.1.1)."""
    return 0 if body.startswith(b"--" + boundary) else body.find(b"\r\n--" + boundary) + 2


class _Reader:
    """Makes parts of what the parser finds. It is given the whole body at once, so that it gives whole headers."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._data: list[bytes] = []

    def begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            raise FormParserError(f"more than {_MOST_PARTS} parts")
        self._headers, self._data = {}, []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name = data[start:end].lower()

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._name] = data[start:end].strip()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def end_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise FormParserError("a part has no Content-Disposition with a name")
        content = b"".join(self._data)
        encoding = self._headers.get(b"content-transfer-encoding", b"").lower()
        if encoding == b"base64":
            try:
                content = decode_base64(content)
            except ValueError as error:
                raise FormParserError(f"a part is {error}") from error
        elif encoding not in _AS_IT_IS:
            raise FormParserError("a Content-Transfer-Encoding other than base64; send the bytes as they are")
        self.parts.append(Part(options[b"name"].decode(errors="replace"), content))

    def end(self) -> None:
        self.complete = True


def _unreadable(reason: str) -> MalformedRequestError:
    return MalformedRequestError(f"the form cannot be read: {reason}")
