"""JSON in the characters that programs write it in.

JSON is UTF-8 (RFC 8259). Programs on Windows write a byte order mark before it, or UTF-16; Java's and .NET's name a
charset.
"""

from __future__ import annotations

import json
import re

from serving.core.errors import MalformedRequestError, UnsupportedMediaTypeError

_CHARSETS = frozenset(
    [
        *("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252", "cp1252"),
        *("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"),
    ]
)
"""Others are refused by name: Python's decoders are no match for hostile text in some of them."""
_UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")
_find_charset = re.compile(r';\s*charset\s*=\s*"?([^\s;"]{1,40})', re.IGNORECASE).search


def as_utf8(text: bytes, content_type: str = "") -> bytes:
    """JSON in UTF-8 without a byte order mark. The text itself says what it is; where it does not, its charset does.

    Args:
        content_type: of the request.

    Raises:
        UnsupportedMediaTypeError: the charset is none that is taken.
        MalformedRequestError: the text is not in that charset.
    """
    charset = "utf-8"
    if content_type and (found := _find_charset(content_type)):
        charset = found[1].lower()
        if charset not in _CHARSETS:
            raise UnsupportedMediaTypeError(f"charset {charset} is not supported; send UTF-8")
    # Of nearly all bodies two bytes tell.
    if charset in _UTF_8 and text[:1] in (b"{", b"[") and text[1:2] != b"\0":
        return text
    seen = json.detect_encoding(text)
    if seen == "utf-8-sig":
        return text[3:]
    if seen == "utf-8" and charset in _UTF_8:
        return text
    if seen != "utf-8":
        charset = seen
    try:
        return text.decode(charset).encode()
    except UnicodeError as error:
        raise MalformedRequestError(f"the body is not valid JSON: not text in {charset}") from error
