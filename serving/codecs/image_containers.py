"""Files of images without what does not decide on the pixels of their first picture.

Pillow refuses pictures because of their metadata: a bad colour profile, a large text, a broken index of further
pictures. Nothing here needs any of it but the orientation. What is left out is neither parsed nor decompressed, so
that it can do no harm either.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from serving.core.errors import InvalidImageError

DAMAGED = "the image is truncated or damaged and cannot be decoded"
# Chunks, segments or blocks. Large files have thousands; this many take a tenth of a second here.
MOST_PARTS = 100_000

_PNG = b"\x89PNG\r\n\x1a\n"
# From grey samples of fewer than 8 bits to 8: Pillow scales the samples, but not the one that is transparent.
_WIDENED = {2: 85, 4: 17}

_ORIENTATION = 274


class Slim(NamedTuple):
    """What a decoder needs of a file, and what it cannot tell."""

    content: bytes
    exif: bytes = b""
    """A TIFF structure, with or without `Exif` in front; empty: there is none, or the decoder turns the picture."""
    size: tuple[int, int] | None = None
    """Width and height of a picture for which Pillow takes memory before it tells them."""
    completions: tuple[bytes, ...] | None = None
    """Of a file without its end: `content` has made up an end, and these have others.

    All decode to the same pixels where none is missing. There is no other where one is missing for certain.
    """


def read_png(content: bytes) -> Slim:
    """Header, palette, transparency and pixels; of an animation the picture that others show.

    Raises:
        InvalidImageError: the header is damaged, or Apple's tools have changed the file.
    """
    head: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    for kind, body, checksum in _chunks(content):
        if kind == b"IDAT":
            pixels.append(body)
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and kind not in head:
            head[kind] = bytes(body)
            if checksum != zlib.crc32(body, zlib.crc32(kind)).to_bytes(4):
                raise InvalidImageError(DAMAGED)
        elif kind == b"eXIf":
            head[kind] = bytes(body)
        elif kind == b"CgBI":
            raise InvalidImageError("this is a PNG that Xcode has changed for iPhone; send the one that it was made of")
    header = head.get(b"IHDR", b"")
    if len(header) != 13:
        raise InvalidImageError(DAMAGED)
    parts = [_PNG, _chunk(b"IHDR", header)]
    if b"PLTE" in head:
        parts.append(_chunk(b"PLTE", head[b"PLTE"]))
    if b"tRNS" in head:
        parts.append(_chunk(b"tRNS", _as_decoded(head[b"tRNS"], depth=header[8], colour=header[9])))
    if pixels:
        parts.append(_chunk(b"IDAT", b"".join(pixels)))
    return Slim(b"".join((*parts, _chunk(b"IEND", b""))), head.get(b"eXIf", b""))


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bytes]]:
    """Kind, content and checksum of each chunk; the last one may end early."""
    view = memoryview(content)
    at = len(_PNG)
    for _ in range(MOST_PARTS):
        if at + 8 > len(content):
            return
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        yield kind, view[at + 8 : end], content[end : end + 4]
        if kind == b"IEND":
            return
        at = end + 4
    raise InvalidImageError(DAMAGED)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _as_decoded(transparent: bytes, *, depth: int, colour: int) -> bytes:
    """The samples that are transparent in the depth that Pillow decodes to, 8 bits but for 16-bit grey."""
    if colour == 0 and depth in _WIDENED:
        return struct.pack(">H", int.from_bytes(transparent[:2]) * _WIDENED[depth] & 0xFFFF)
    if colour == 2 and depth == 16:
        return b"".join(bytes([0, transparent[index]]) for index in range(0, len(transparent), 2))
    return transparent


def read_gif(content: bytes) -> Slim:
    """Screen, palette, transparency and first picture.

    Raises:
        InvalidImageError: there is no picture.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", content, 6)
        at = start = 13 + (6 << (flags & 7) if flags & 0x80 else 0)
        control = b""
        blocks = 0
        while content[at] != 0x2C:
            if content[at] != 0x21:
                raise InvalidImageError(DAMAGED)
            if content[at + 1] == 0xF9 and content[at + 2] == 4:
                # How the picture makes room for the next one is left out: Pillow would take memory for it.
                control = b"\x21\xf9\x04" + bytes([content[at + 3] & 1, 0, 0, content[at + 6], 0])
            at += 2
            while content[at]:
                at += content[at] + 1
                blocks += 1
                if blocks > MOST_PARTS:
                    raise InvalidImageError(DAMAGED)
            at += 1
            blocks += 1
        left, top, across, down = struct.unpack_from("<4H", content, at + 1)
    except (IndexError, struct.error) as error:
        raise InvalidImageError(DAMAGED) from error
    size = max(width, left + across), max(height, top + down)
    return Slim(content[:start] + control + content[at:], size=size)


def orientation(exif: bytes) -> int:
    """How a picture is stored, 1 to 8, by its EXIF (2.32, tag 0x0112); 1 where nothing readable says it.

    Args:
        exif: a TIFF structure, with or without `Exif` in front of it.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for place in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + {1: "B", 4: "I"}.get(kind, "H"), exif, place + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        # It ends early, and says nothing about the pixels.
        pass
    return 1
