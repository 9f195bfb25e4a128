"""The parts of a message are counted before it is decoded.

A field of two bytes can be a message of its own, which takes a hundred in memory: 16 MB of nothing but those decode
into 700 MB, and that takes a second in which nobody is answered.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor

from serving.core.errors import InvalidInputError, MalformedRequestError

_LARGE_BYTES = 16_384
"""Of a smaller message the most that fits in takes some milliseconds."""
_MOST_FIELDS = 50_000
"""Twice as many as 1,024 examples of iris have. The elements of a packed list or of bytes are no fields."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def check_fields(body: bytes, message: Any) -> None:
    """Judge a message by its encoding, which is walked through no further than it takes to see that it is too much.

    Raises:
        InvalidInputError: it has more fields than anybody needs.
        MalformedRequestError: it is not the encoding of a message.
    """
    if len(body) <= _LARGE_BYTES:
        return
    fields = 0
    parts: list[tuple[int, int, Descriptor]] = [(0, len(body), message.DESCRIPTOR)]
    while parts:
        at, end, descriptor = parts.pop()
        nested = _nested(descriptor)
        while at < end:
            fields += 1
            if fields > _MOST_FIELDS:
                raise InvalidInputError(f"the message has more than {_MOST_FIELDS} fields")
            key, at = _varint(body, at)
            kind = key & 7
            if kind == _VARINT:
                _, at = _varint(body, at)
            elif kind == _BYTES:
                length, at = _varint(body, at)
                if at + length > end:
                    raise MalformedRequestError("the message ends inside a field")
                if (of := nested.get(key >> 3)) is not None:
                    parts.append((at, at + length, of))
                at += length
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                raise MalformedRequestError("the message cannot be decoded")


@cache
def _nested(descriptor: Descriptor) -> dict[int, Descriptor]:
    """The fields that are messages."""
    return {field.number: of for field in descriptor.fields if (of := field.message_type) is not None}


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while at < len(body) and shift < 64:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise MalformedRequestError("the message ends inside a number")
