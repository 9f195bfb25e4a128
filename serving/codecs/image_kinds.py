"""What the bytes of a file are, by its beginning: neither its name nor a content type decides.

Errors name what was sent, so that its sender knows whether to convert a picture or to look for another mistake.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Kind(NamedTuple):
    """What a file is."""

    words: str
    """As in "this is …"."""
    format: str = ""
    """Pillow's name, for formats that settings can allow."""


_JPEG = Kind("a JPEG", "JPEG")
_AVIF = Kind("an AVIF", "AVIF")
_HEIF = Kind("a HEIF (HEIC)", "HEIF")
_TIFF = Kind("a TIFF", "TIFF")
_JPEG_XL = Kind("a JPEG XL")
_JPEG_2000 = Kind("a JPEG 2000")
_RAW = Kind("a raw file of a camera")
_VIDEO = Kind("a video")
_HTML = Kind("an HTML page, perhaps the error page of a proxy")
_POSTSCRIPT = Kind("PostScript")

# The first that fits. The more specific ones stand before those that they begin like.
_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (rb"\xff\xd8\xff", _JPEG),
    (rb"\x89PNG\r\n\x1a\n", Kind("a PNG", "PNG")),
    (rb"GIF8[79]a", Kind("a GIF", "GIF")),
    (rb"RIFF.{4}WEBP", Kind("a WebP", "WEBP")),
    (rb"RIFF.{4}AVI |\x1a\x45\xdf\xa3|\0\0\x01[\xb3\xba]", _VIDEO),
    (rb"II\*\0.{4}CR|IIRO|IIU\0|FUJIFILMCCD|.{4}ftypcrx ", _RAW),
    (rb"II[*+]\0|MM\0[*+]", _TIFF),
    (rb"BM.{4}.{4}.{3}\0", Kind("a BMP", "BMP")),
    (rb"\0{3}\x0cJXL \r\n\x87\n|\xff\x0a", _JPEG_XL),
    (rb"\0{3}\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _JPEG_2000),
    (rb"\0\0[\x01\x02]\0.{2}[\0-\xff]{3}\0", Kind("an icon (ICO)")),
    (rb"8BPS", Kind("a Photoshop file (PSD)")),
    (rb"%PDF-", Kind("a PDF")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", _POSTSCRIPT),
    (rb"P[1-7][\s#]", Kind("a PNM (PBM, PGM, PPM)")),
    (rb"\x76\x2f\x31\x01", Kind("an OpenEXR")),
    (rb"#\?RADIANCE|#\?RGBE", Kind("a Radiance HDR")),
    (rb"qoif", Kind("a QOI")),
    (rb"DDS ", Kind("a DDS texture")),
    (rb".{128}DICM", Kind("a DICOM file")),
    (rb"PK\x03\x04", Kind("a ZIP archive")),
    (rb"\x1f\x8b", Kind("a file that gzip has compressed")),
    (rb"data:", Kind("a data URL, not the file in it")),
)
_signatures = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _BEGINNINGS]
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), _HEIF),
}
# The brands of a picture in general: what follows them says how it is coded.
_ANY_PICTURE = (b"mif1", b"msf1", b"miaf")
_is_svg = re.compile(rb"<(\w+:)?svg[\s>]").search
_is_html = re.compile(rb"<(!doctype html|html|head|body|title)[\s>]", re.IGNORECASE).search
# A declaration, comments and a document type may stand before the element that tells.
_HEAD = 4096


def recognise(content: bytes) -> Kind | None:
    """What begins as `content` does; `None` for what nothing here begins like."""
    if content[4:8] == b"ftyp":
        found = _of_brands(content)
        if found is not None:
            return found
    head = content[:_HEAD]
    for signature, kind in _signatures:
        if signature.match(head):
            return kind
    return _of_text(head)


def _of_brands(content: bytes) -> Kind | None:
    """Of a file in boxes: its first brand, and those that it is compatible with."""
    end = min(int.from_bytes(content[:4]), _HEAD)
    brands = [content[8:12], *(content[at : at + 4] for at in range(16, end, 4))]
    for brand in brands:
        if brand in _BRANDS:
            return _BRANDS[brand]
    if brands[0] in _ANY_PICTURE:
        return _HEIF
    return None if brands[0] == b"crx " else _VIDEO


def _of_text(head: bytes) -> Kind | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        if _is_html(text) and not text.startswith((b"<?xml", b"<svg")):
            return _HTML
        return Kind("an SVG") if _is_svg(text) else Kind("XML")
    return Kind("JSON") if text.startswith((b"{", b"[")) else None
