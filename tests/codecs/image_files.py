"""The files of tests/codecs/images, and what a reader has to see in each of them.

A picture is 64 × 32 pixels in four quarters, written by programs other than the one that the service decodes with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serving.store.models import ImagePreprocessing

DIRECTORY = Path(__file__).with_name("images")
FIELD = Path(__file__).parent.parent / "field/files"
AS_IT_IS = ImagePreprocessing(width=64, height=32, interpolation="nearest")

Quarters = tuple[tuple[int, int, int], ...]
"""Red, green and blue: above left, above right, below left, below right."""

COLOURS: Quarters = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
GREYS: Quarters = tuple((value,) * 3 for value in (51, 102, 153, 204))  # type: ignore[assignment]
TRANSPARENT: Quarters = (*COLOURS[:3], (255, 255, 255))
"""The fourth quarter is black below its transparency."""
TRANSPARENT_GREYS: Quarters = (*GREYS[:3], (255, 255, 255))

_GREY = {"grey.jpg", "grey16.png", "grey16.tif"}
_SPECIAL: dict[str, Quarters] = {
    "one_bit.png": ((0,) * 3, (0,) * 3, (255,) * 3, (255,) * 3),
    "one_bit.tif": ((0,) * 3, (0,) * 3, (255,) * 3, (255,) * 3),
    "grey1_key.png": ((0,) * 3, (0,) * 3, (0,) * 3, (255,) * 3),
    "grey2_key.png": ((0,) * 3, (85,) * 3, (170,) * 3, (255,) * 3),
    "palette_alphas.png": ((255, 0, 0), (127, 255, 127), (0, 0, 255), (255, 255, 255)),
    "la.png": TRANSPARENT_GREYS,
    **dict.fromkeys(("grey4_key.png", "grey8_key.png", "grey16_key.png"), TRANSPARENT_GREYS),
    **dict.fromkeys(("rgba.png", "rgba16.png", "rgb_key.png", "rgb16_key.png"), TRANSPARENT),
    **dict.fromkeys(("palette_key.png", "palette_alpha.png"), TRANSPARENT),
    **dict.fromkeys(("alpha.webp", "alpha.avif", "alpha.bmp", "alpha.tif", "transparent.gif"), TRANSPARENT),
    **dict.fromkeys(_GREY, GREYS),
}
REFUSED = {
    "lossless.jpg": "a lossless JPEG",
    "jpeg_ls.jls": "a JPEG-LS",
    "twelve_bits.jpg": "a JPEG with 12 bits per sample",
    "xcode.png": "a PNG that Xcode has changed",
    "compressed.bmp": "a BMP with compressed pixels",
    "float.tif": "a TIFF that is damaged, or of a variant that is not decoded",
    "grey_float.tif": "samples of 32 bits",
    "lab.tif": "Lab colours",
    "icon.ico": r"an icon \(ICO\)",
    "layers.psd": r"a Photoshop file \(PSD\)",
    "photo.jp2": "a JPEG 2000",
    "photo.jxl": "a JPEG XL",
}
"""What the error of each file calls it."""

FILES = {path.name: path.read_bytes() for path in sorted(DIRECTORY.iterdir()) if path.suffix not in (".py", ".md", "")}
SHOWN = {name: _SPECIAL.get(name, COLOURS) for name in FILES if name not in REFUSED}
FORMATS = {
    **dict.fromkeys((".jpg", ".mpo", ".jls"), "JPEG"),
    **dict.fromkeys((".png",), "PNG"),
    **{f".{name.lower()}": name for name in ("WEBP", "GIF", "BMP", "AVIF")},
    ".tif": "TIFF",
    ".heic": "HEIF",
}


def quarters(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[4, 8, 16, 3]: the middle of each quarter of a picture of 64 × 32 pixels."""
    return np.stack([array[top : top + 8, left : left + 16] for top in (4, 20) for left in (8, 40)])


def shows(array: np.ndarray[Any, Any], expected: Quarters, tolerance: int = 4) -> bool:
    """`tolerance` is what lossy formats need; others are within it too."""
    wanted = np.array(expected)[:, None, None, :]
    return int(np.abs(quarters(array).astype(int) - wanted).max()) <= tolerance
