"""A picture for the image benchmark."""

from __future__ import annotations

import io

WIDTH, HEIGHT = 640, 480
QUALITY = 90
NOISE = 6.0
"""Standard deviation of the noise, of 255: enough that the file is as large as a photograph's."""


def photo(seed: int = 0) -> bytes:
    """A JPEG of 640×480 pixels, colour gradients with noise, that decodes with about the work of a photograph."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    gradients = np.stack(
        [
            255 * columns / WIDTH,
            255 * rows / HEIGHT,
            127 * (1 + np.sin(columns / 40) * np.cos(rows / 30)),
        ],
        axis=-1,
    )
    pixels = gradients + generator.normal(0, NOISE, (HEIGHT, WIDTH, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
