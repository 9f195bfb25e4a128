"""JPEG and PNG without what does not decide on their pixels.

Pillow refuses pictures because of their metadata: a bad colour profile, a large text, a broken index of further
pictures. Nothing here needs any of it but the orientation. What is left out is neither parsed nor decompressed, so
that it can do no harm either.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from serving.core.errors import InvalidImageError

DAMAGED = "the image is truncated or damaged and cannot be decoded"

# A marker; in the data of a scan 0xFF is followed by 0x00, or by a restart marker.
_marker = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])").search
_END = b"\xff\xd9"
_SCAN = 0xDA
# Baseline, extended and progressive, each with Huffman's or with arithmetic coding.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_OTHER_FRAMES = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS",
}
_WITHOUT_LENGTH = {0x01, 0xD8}
_COMMENTS = {0xFE, *range(0xE0, 0xF0)}
# Each scan of a progressive JPEG costs time for the whole picture, however short it is. Encoders write about ten.
_MOST_SCANS = 100
_RESTARTS = [bytes([0xFF, 0xD0 + number]) for number in range(8)]
_FILLER = b"\x5a\xa5\x3c\xc3" * 32

_PNG = b"\x89PNG\r\n\x1a\n"
# From samples of fewer than 8 bits to 8: Pillow scales the samples, but not the one that is transparent.
_WIDENED = {1: 255, 2: 85, 4: 17}


class Jpeg(NamedTuple):
    """What a decoder needs of a JPEG, and what it cannot tell."""

    content: bytes
    exif: bytes
    """A TIFF structure; empty: there is none."""
    is_ended: bool
    is_whole: bool
    """The scans bring every bit of every coefficient of every component."""

    def endings(self) -> tuple[bytes, bytes]:
        """Two files with an end marker of which the second has other data in front of it.

        Both decode to the same pixels only when these need no data that is missing.
        """
        begun = self.content.rstrip(b"\xff")
        # Where data is cut off before a restart marker, the decoder waits for the next of the eight.
        places = [begun.rfind(marker) for marker in _RESTARTS]
        following = _RESTARTS[(places.index(max(places)) + 1) % 8 if max(places) >= 0 else 0]
        return begun + _END, begun + _FILLER + following + _FILLER + _END


def read_jpeg(content: bytes) -> Jpeg:
    """The segments up to the end marker without comments, profiles, previews and indexes of further pictures.

    Raises:
        InvalidImageError: a kind of JPEG that is not decoded, or too many scans.
    """
    view = memoryview(content)
    kept: list[bytes | memoryview] = [view[:2]]
    exif = b""
    is_ended = False
    scans = 0
    missing: dict[int, list[int]] = {}
    """For each component the bits that its 64 coefficients lack; before its first scan all of them."""
    at = 2
    while found := _marker(content, at):
        marker = found[1][0]
        start, at = found.start(), found.end()
        if marker == _END[1]:
            is_ended = True
            break
        if marker in _WITHOUT_LENGTH:
            kept.append(view[start:at])
            continue
        end = at + int.from_bytes(content[at : at + 2])
        body = content[at + 2 : end]
        if end < at + 2 or end > len(content):
            kept.append(view[start:])
            break
        at = end
        if marker in _COMMENTS:
            if marker == 0xE1 and body.startswith(b"Exif\0\0"):
                exif = exif or body[6:]
            if not (marker == 0xE0 and body.startswith(b"JFIF")) and not (marker == 0xEE and body.startswith(b"Adobe")):
                continue
        kept.append(view[start:end])
        if marker in _OTHER_FRAMES or marker in _FRAMES:
            _check_frame(marker, body)
            missing = {number: [16] * 64 for number in body[6::3]}
        elif marker == _SCAN:
            scans += 1
            if scans > _MOST_SCANS:
                raise InvalidImageError(f"the JPEG has more than {_MOST_SCANS} scans; save it with fewer")
            _note_scan(missing, body)
            following = _marker(content, at)
            end = following.start() if following else len(content)
            kept.append(view[at:end])
            at = end
    return Jpeg(b"".join((*kept, _END) if is_ended else kept), exif, is_ended, _are_whole(missing))


def _check_frame(marker: int, body: bytes) -> None:
    if marker in _OTHER_FRAMES:
        raise InvalidImageError(f"this is {_OTHER_FRAMES[marker]}, which is not decoded; send a baseline or progressive one")
    if body and body[0] != 8:
        raise InvalidImageError(f"this is a JPEG with {body[0]} bits per sample; send one with 8")


def _note_scan(missing: dict[int, list[int]], body: bytes) -> None:
    """ITU-T T.81, B.2.3: components, then the first and last coefficient, and the bits before and after this scan."""
    components, last = body[1:-3:2], body[-3:]
    if len(last) < 3:
        return
    for number in components:
        for index in range(last[0], min(last[1], 63) + 1):
            if number in missing:
                missing[number][index] = last[2] & 15


def _are_whole(missing: dict[int, list[int]]) -> bool:
    return bool(missing) and not any(any(bits) for bits in missing.values())


class Png(NamedTuple):
    """What a decoder needs of a PNG."""

    content: bytes
    exif: bytes
    """A TIFF structure; empty: there is none."""


def read_png(content: bytes) -> Png:
    """Header, palette, transparency and pixels; of an animation the picture that others show.

    Raises:
        InvalidImageError: the header is damaged, or Apple's tools have changed the file.
    """
    head: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    view = memoryview(content)
    at = len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        body = view[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels.append(body)
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and kind not in head:
            head[kind] = bytes(body)
            if content[at + 8 + length : at + 12 + length] != zlib.crc32(body, zlib.crc32(kind)).to_bytes(4):
                raise InvalidImageError(DAMAGED)
        elif kind == b"eXIf":
            head[kind] = bytes(body)
        elif kind == b"CgBI":
            raise InvalidImageError("this is a PNG that Xcode has changed for iPhone; send the one that it was made of")
        elif kind == b"IEND":
            break
        at += 12 + length
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
    return Png(b"".join((*parts, _chunk(b"IEND", b""))), head.get(b"eXIf", b""))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _as_decoded(transparent: bytes, *, depth: int, colour: int) -> bytes:
    """The samples that are transparent in the depth that Pillow decodes to, 8 bits but for 16-bit grey."""
    if colour == 0 and depth in (2, 4):
        return struct.pack(">H", int.from_bytes(transparent[:2]) * _WIDENED[depth] & 0xFFFF)
    if colour == 2 and depth == 16:
        return b"".join(bytes([0, transparent[index]]) for index in range(0, len(transparent), 2))
    return transparent


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
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for index in range(entries):
            place = start + 2 + 12 * index
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + {1: "B", 4: "I"}.get(kind, "H"), exif, place + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        # It ends early, and says nothing about the pixels.
        pass
    return 1
