"""A JPEG without what does not decide on its pixels.

And what its decoder does not tell: libjpeg makes up pixels that are missing.
"""

from __future__ import annotations

import re

from serving.codecs.image_containers import DAMAGED, MOST_PARTS, Slim
from serving.core.errors import InvalidImageError

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
_METADATA = {0xFE, *range(0xE0, 0xF0)}
_EXIF = b"Exif\0\0"
# Each scan of a progressive JPEG costs time for the whole picture, however short it is. Encoders write about ten.
_MOST_SCANS = 100
_RESTARTS = [bytes([0xFF, 0xD0 + number]) for number in range(8)]
_FILLER = b"\x5a\xa5\x3c\xc3" * 32


def read_jpeg(content: bytes) -> Slim:
    """The segments up to the end marker without comments, profiles, previews and indexes of further pictures.

    Raises:
        InvalidImageError: a kind of JPEG that is not decoded, or too many scans.
    """
    view = memoryview(content)
    kept: list[bytes | memoryview] = [view[:2]]
    exif = b""
    scans = 0
    missing: dict[int, list[int]] = {}
    """For each component the bits that its 64 coefficients lack; before its first scan all of them."""
    at = 2
    for _ in range(MOST_PARTS):
        found = _marker(content, at)
        if found is None:
            break
        marker = found[1][0]
        start, at = found.start(), found.end()
        if marker == _END[1]:
            return Slim(b"".join((*kept, _END)), exif)
        if marker in _WITHOUT_LENGTH:
            kept.append(view[start:at])
            continue
        end = at + int.from_bytes(content[at : at + 2])
        body = content[at + 2 : end]
        if end < at + 2 or end > len(content):
            kept.append(view[start:])
            break
        at = end
        if marker in _METADATA and not _decides_on_colours(marker, body):
            if marker == 0xE1 and body.startswith(_EXIF):
                exif = exif or body
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
    else:
        raise InvalidImageError(DAMAGED)
    has_scans = bool(missing) and not any(any(bits) for bits in missing.values())
    return _without_end(b"".join(kept), exif, has_scans=has_scans)


def _decides_on_colours(marker: int, body: bytes) -> bool:
    return (marker == 0xE0 and body.startswith(b"JFIF")) or (marker == 0xEE and body.startswith(b"Adobe"))


def _check_frame(marker: int, body: bytes) -> None:
    if marker in _OTHER_FRAMES:
        raise InvalidImageError(
            f"this is {_OTHER_FRAMES[marker]}, which is not decoded; send a baseline or progressive one"
        )
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


def _without_end(content: bytes, exif: bytes, *, has_scans: bool) -> Slim:
    """Cameras leave the end marker out. Then all pixels are there; in a file that was cut off they are not."""
    content = content.rstrip(b"\xff")
    # Where data is cut off before a restart marker, the decoder waits for the next of the eight.
    places = [content.rfind(marker) for marker in _RESTARTS]
    following = _RESTARTS[(places.index(max(places)) + 1) % 8 if max(places) >= 0 else 0]
    others = (content + _FILLER + following + _FILLER + _END,) if has_scans else ()
    return Slim(content + _END, exif, completions=others)
