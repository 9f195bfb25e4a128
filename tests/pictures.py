"""Image files made on the spot."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def pixels(height: int = 48, width: int = 64, *, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]: slopes and a disc off the middle, so that no turn or flip goes unnoticed."""
    y, x = np.mgrid[0:height, 0:width]
    disc = ((y - height * 0.3) ** 2 + (x - width * 0.2) ** 2 < (height * 0.2) ** 2) * 90
    noise = np.random.default_rng(seed).integers(0, 8, (height, width))
    channels = [x * 160 // width + disc, y * 160 // height + disc // 2, (x + y) * 120 // (width + height) + noise]
    return np.stack(channels, axis=-1).astype(np.uint8)


def picture(mode: str = "RGB", **size: int) -> Image.Image:
    return Image.fromarray(pixels(**size)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def huge_png(width: int = 100_000, height: int = 100_000) -> bytes:
    """A few bytes whose header claims a huge picture, with every checksum right."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
