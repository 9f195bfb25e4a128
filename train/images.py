"""Images from a seed: what a network's statistics are measured on and exports are verified with."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 299
"""Height and width that InceptionV3 takes, in pixels."""
# Cells per side of the random mosaic that is blown up: from one flat colour to noise. Noise alone would look the
# same to a convolutional network whatever the seed.
_MOSAICS = (2, 5, 12, 40, 1, SIDE)


def seeded_images(count: int, *, seed: int, height: int = SIDE, width: int = SIDE) -> npt.NDArray[np.uint8]:
    """Images of different coarseness, uint8 [count, height, width, 3]; the same for the same arguments."""
    random = np.random.default_rng(seed)
    images = []
    for index in range(count):
        cells = _MOSAICS[index % len(_MOSAICS)]
        mosaic = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        smooth = np.asarray(mosaic.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = smooth + random.normal(0, 4, smooth.shape)
        images.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return np.stack(images)


def encode(image: npt.NDArray[np.uint8], file_format: Literal["PNG", "JPEG"] = "PNG") -> bytes:
    """The file of an image uint8 [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=file_format)
    return buffer.getvalue()


def decode(file: bytes) -> npt.NDArray[np.uint8]:
    """An image file as uint8 [299, 299, 3], resized bilinearly with antialiasing."""
    with Image.open(io.BytesIO(file)) as image:
        resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.uint8)
