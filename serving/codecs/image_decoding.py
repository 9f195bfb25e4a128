"""From the bytes of an image file to the array that a graph takes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from serving.core.base64_text import decode_base64
from serving.core.errors import InvalidImageError
from serving.store.models import ImagePreprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# The limit is ours, from the settings, and an error; Pillow's own would be a warning first.
Image.MAX_IMAGE_PIXELS = None

# What Pillow's decoders raise for broken files, beside OSError.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)

# EXIF orientation to the transposition that makes the picture upright (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# A JPEG header within this size takes at most about 4 ms to parse; other formats compress text there.
_QUICK_BYTES = 16_384
_JPEG = b"\xff\xd8"

# Of base64 and base64url, with line breaks.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n"


class LoadedImage(NamedTuple):
    array: NDArray[np.uint8]
    """uint8 `[height, width, channels]` of the preprocessing, before scaling."""
    pixels: int
    """Width × height of the file."""


def load_image(
    content: bytes, preprocessing: ImagePreprocessing, *, formats: Collection[str], max_pixels: int
) -> LoadedImage:
    """Decode, turn upright, convert and resize.

    Stretched, this is what Keras' `load_img(target_size=…)` does; cropped, torchvision's `Resize` and `CenterCrop`.

    Grey, palette, alpha and CMYK pictures are converted by Pillow (alpha is dropped); 16-bit grey is scaled to
    8 bits, which Pillow alone would clip. Of an animation the first frame is taken. Orientation comes from
    EXIF; a picture without a readable one is upright. Resizing is with Pillow's anti-aliasing.

    Args:
        content: the file.
        formats: Pillow names of the formats that may be decoded.
        max_pixels: width × height from the header above which nothing is decoded.

    Raises:
        InvalidImageError: not an image, a format that is not allowed, too many pixels, or broken data.
    """
    with _opened(content, formats, max_pixels) as image:
        width, height = image.size
        # Read before loading: loading may drop the header's data.
        orientation = _orientation(image)
        picture = _to_rgb(image)
    if orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[orientation])
    if preprocessing.channels == "L":
        picture = picture.convert("L")
    picture = _resized(picture, preprocessing)
    array = np.asarray(picture)
    if preprocessing.channels == "L":
        array = array[:, :, np.newaxis]
    elif preprocessing.channels == "BGR":
        array = array[:, :, ::-1]
    return LoadedImage(array, width * height)


def _resized(picture: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    size = (preprocessing.width, preprocessing.height)
    resampling = _FILTERS[preprocessing.interpolation]
    if preprocessing.resize == "stretch":
        return picture if picture.size == size else picture.resize(size, resampling)
    # As torchvision.transforms.Resize(shortest) and CenterCrop(size), to the pixel: the longer side is cut off to a
    # whole number, and the crop begins at half of what is over, rounded to even.
    # https://github.com/pytorch/vision/blob/main/torchvision/transforms/functional.py
    shortest = preprocessing.shortest or min(size)
    now = min(picture.size)
    width, height = (shortest if side == now else int(shortest * side / now) for side in picture.size)
    wanted = (width, height)
    if wanted != picture.size:
        picture = picture.resize(wanted, resampling)
    left = round((picture.width - size[0]) / 2)
    top = round((picture.height - size[1]) / 2)
    return picture.crop((left, top, left + size[0], top + size[1]))


def to_input(images: NDArray[np.uint8], preprocessing: ImagePreprocessing, dtype: str) -> NDArray[Any]:
    """Pixels uint8 `[N, height, width, channels]` as the graph's input: scaled, normalised and in its layout."""
    if dtype == "uint8":
        found: NDArray[Any] = images
    else:
        found = images.astype(np.float32) * np.float32(preprocessing.scale)
        if preprocessing.mean:
            found -= np.asarray(preprocessing.mean, np.float32)
        if preprocessing.deviation:
            found /= np.asarray(preprocessing.deviation, np.float32)
        found = found.astype(dtype, copy=False)
    if preprocessing.layout == "NCHW":
        found = found.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(found)


def check_image(content: bytes, *, formats: Collection[str], max_pixels: int) -> int:
    """Judge an image by its header, as `load_image` does before it decodes; width × height.

    The pixels may still be damaged: only decoding them shows that.

    Raises:
        InvalidImageError: not an image, a format that is not allowed, too many pixels, or a broken header.
    """
    with _opened(content, formats, max_pixels) as image:
        return image.width * image.height


def has_good_header(content: bytes, *, formats: Collection[str], max_pixels: int) -> bool:
    """Whether `check_image` would pass, told within milliseconds: it is true of most photographs.

    False says nothing: the header is longer, of another format, or bad. `check_image` judges.
    """
    if "JPEG" not in formats or not content.startswith(_JPEG):
        return False
    try:
        check_image(content[:_QUICK_BYTES], formats=["JPEG"], max_pixels=max_pixels)
    except InvalidImageError:
        return False
    return True


def image_file(value: bytes) -> bytes:
    """The image file in an element of a string tensor or in a body: itself, or text as `decode_base64` reads it.

    TensorFlow's models take base64url, most clients of other protocols send the file. No image file is made of nothing
    but letters and digits, so that the two cannot be mistaken for each other.

    Raises:
        InvalidImageError: it is empty, or text of a length that no base64 has.
    """
    if not value:
        raise InvalidImageError("there is no image: it is empty")
    if not _is_base64(value):
        return value
    try:
        return decode_base64(value)
    except ValueError as error:
        raise InvalidImageError(f"the data is not an image: {error}") from error


def _is_base64(value: bytes) -> bool:
    text = value.strip()
    # Of most files the first bytes say that they are none.
    return text[:5].lower() == b"data:" or not any(part.translate(None, _BASE64) for part in (text[:64], text))


@contextmanager
def _opened(content: bytes, formats: Collection[str], max_pixels: int) -> Iterator[Image.Image]:
    """The image with its header read; what goes wrong in the block is an InvalidImageError too."""
    try:
        with Image.open(BytesIO(content), formats=list(formats)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise InvalidImageError(
                    f"the image has {width} × {height} pixels; at most {max_pixels} are allowed: scale it down"
                )
            yield image
    except UnidentifiedImageError as error:
        raise InvalidImageError(
            f"the data is not an image in an allowed format ({', '.join(sorted(formats))})"
        ) from error
    except _DECODE_ERRORS as error:
        raise InvalidImageError("the image is truncated or damaged and cannot be decoded") from error


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODE_ERRORS:
        # Damaged EXIF says nothing about the pixels: the picture is taken as it is stored.
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow keeps as I or I;16
        samples = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(samples.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def sample_image() -> bytes:
    """A small PNG, always the same: the built-in sample that deployment checks predict."""
    y, x = np.mgrid[0:32, 0:32].astype(np.uint8)
    disc = ((x.astype(int) - 16) ** 2 + (y.astype(int) - 16) ** 2 < 100).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(np.stack([x * 8, y * 8, disc * 255], axis=-1)).save(file, "PNG", optimize=True)
    return file.getvalue()
