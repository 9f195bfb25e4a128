"""Bytes in base64, as programs write it."""

from __future__ import annotations

import binascii
from urllib.parse import unquote_to_bytes

_STANDARD = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n"


def decode_base64(text: str | bytes) -> bytes:
    """The bytes in base64 text.

    Taken are base64 and base64url, with or without padding, in one line or in several, by itself or in a data URL
    (RFC 2397) such as `data:image/png;base64,…`, which a browser's canvas and FileReader give.

    Raises:
        ValueError: it is none of these; the message says so.
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError("not base64 or base64url") from error
    data = data.strip(_SPACE)
    if data[:5].lower() == b"data:":
        head, _, data = data.partition(b",")
        if not head.lower().endswith(b";base64"):
            raise ValueError("a data URL with base64 is required")
        data = unquote_to_bytes(data)
    data = data.translate(_STANDARD, _SPACE).rstrip(b"=")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error as error:
        raise ValueError("not base64 or base64url") from error
