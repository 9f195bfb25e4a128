"""From the bytes of an image file to the array that a graph takes."""

from __future__ import annotations

import hashlib
import importlib
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from serving.codecs.image_containers import DAMAGED, Slim, orientation, read_gif, read_png
from serving.codecs.image_jpeg import read_jpeg
from serving.codecs.image_kinds import Kind, recognise
from serving.core.base64_text import decode_base64
from serving.core.errors import InvalidImageError, ModelError
from serving.store.models import ImagePreprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# The limit is ours, from the settings, and an error; Pillow's own would be a warning first.
Image.MAX_IMAGE_PIXELS = None
# Damaged metadata is no reason to refuse a picture. Python remembers each warning that it has shown, with its text,
# for as long as the process lives.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What Pillow's decoders raise for broken files, beside OSError; those of AVIF and HEIF a RuntimeError.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    EOFError,
    RuntimeError,
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

# A longer side is none of a picture: resizing takes memory for each of its pixels in each pixel of the result.
# JPEG itself has no longer one.
_MOST_SIDE = 65_535
# A crop of the middle sees no more than this of a picture's length, in widths of it.
_MOST_WIDTHS = 100
# Pillow decodes it in Python, for seconds where the file says so in a few bytes.
_BMP_RLE = (1, 2)
_DIGEST_ROWS = 256
# What a Pillow may have been built without.
_FEATURES = {"JPEG": "jpg", "PNG": "zlib", "TIFF": "libtiff", "WEBP": "webp", "AVIF": "avif"}
_READERS: dict[str, Callable[[bytes], Slim]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
}

# A JPEG header within this size takes at most about 4 ms to parse.
_QUICK_BYTES = 16_384
_JPEG = b"\xff\xd8"

# Of base64 and base64url, with line breaks.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n"


class LoadedImage(NamedTuple):
    array: NDArray[np.uint8]
    """uint8 `[height, width, channels]` of the preprocessing, before scaling."""
    pixels: int
    """Width × height of the file."""


def prepare_formats(formats: Collection[str]) -> None:
    """Load what decodes `formats`.

    Raises:
        ModelError: a format needs what is not installed.
    """
    for form, feature in _FEATURES.items():
        if form in formats and not features.check(feature):
            raise ModelError(f"image.allowed_formats has {form}, which the installed Pillow cannot decode")
    if "HEIF" in formats:
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError as error:
            raise ModelError(
                "image.allowed_formats has HEIF, which needs the extra `heif`: pip install 'model-serving[heif]'"
            ) from error


def load_image(
    content: bytes,
    preprocessing: ImagePreprocessing,
    *,
    formats: Collection[str],
    max_pixels: int,
    background: tuple[int, ...] = (255, 255, 255),
) -> LoadedImage:
    """Decode, turn upright, put on the background, convert and resize.

    Stretched, this is what Keras' `load_img(target_size=…)` does; cropped, torchvision's `Resize` and `CenterCrop`.
    docs/image_formats.md says what becomes of each kind of picture.

    Args:
        content: the file.
        formats: Pillow names of the formats that may be decoded.
        max_pixels: width × height from the header above which nothing is decoded.
        background: red, green and blue of what is behind a picture with transparency.

    Raises:
        InvalidImageError: not an image, a format that is not allowed, too many pixels, or broken data.
    """
    with _opened(content, formats, max_pixels) as (image, slim):
        # Read before loading, which may drop it. Pillow turns a TIFF upright itself, where it loads.
        turn = orientation(slim.exif or image.info.get("exif") or b"")
        width, height = image.size
        if slim.completions is not None:
            _check_is_whole(slim.content, slim.completions)
        picture = _to_rgb(image, background)
    if turn in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[turn])
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
    picture = _middle(picture, now * _MOST_WIDTHS)
    width, height = (shortest if side == now else int(shortest * side / now) for side in picture.size)
    wanted = (width, height)
    if wanted != picture.size:
        picture = picture.resize(wanted, resampling)
    left = round((picture.width - size[0]) / 2)
    top = round((picture.height - size[1]) / 2)
    return picture.crop((left, top, left + size[0], top + size[1]))


def _middle(picture: Image.Image, most: int) -> Image.Image:
    """A strip without its ends: enlarged, a strip of a few bytes would take all memory."""
    left, top = (max(0, side - most) // 2 for side in picture.size)
    return picture.crop((left, top, picture.width - left, picture.height - top)) if left or top else picture


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
    with _opened(content, formats, max_pixels) as (image, _):
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
def _opened(content: bytes, formats: Collection[str], max_pixels: int) -> Iterator[tuple[Image.Image, Slim]]:
    """The image with its header read; what goes wrong in the block is an InvalidImageError too."""
    kind = recognise(content)
    if kind is None or kind.format not in formats:
        raise InvalidImageError(_refusal(content, kind, formats))
    try:
        slim = _READERS.get(kind.format, Slim)(content)
        if slim.size is not None:
            _check_size(*slim.size, max_pixels)
        with Image.open(BytesIO(slim.content), formats=[kind.format]) as image:
            _check_size(*image.size, max_pixels)
            if kind.format == "BMP" and image.info.get("compression") in _BMP_RLE:
                raise InvalidImageError("this is a BMP with compressed pixels; send one without, or a PNG")
            yield image, slim
    except UnidentifiedImageError as error:
        raise InvalidImageError(f"this is {kind.words} that is damaged, or of a variant that is not decoded") from error
    except _DECODE_ERRORS as error:
        raise InvalidImageError(DAMAGED) from error


def _refusal(content: bytes, kind: Kind | None, formats: Collection[str]) -> str:
    if not content:
        return "there is no image: it is empty"
    send = f"send an image in an allowed format ({', '.join(sorted(formats))})"
    if kind is None:
        return f"this is not an image: it begins with {content[:8].hex(' ')} in hexadecimal; {send}"
    if kind.format:
        extra = " and the extra `heif`" if kind.format == "HEIF" else ""
        send += f", or ask the operator to allow {kind.format} with the setting image.allowed_formats{extra}"
    return f"this is {kind.words}; {send}"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidImageError(
            f"the image has {width} × {height} pixels; at most {max_pixels} are allowed: scale it down"
        )
    if max(width, height) > _MOST_SIDE:
        raise InvalidImageError(f"the image has {width} × {height} pixels; at most {_MOST_SIDE} are allowed on a side")


def _check_is_whole(content: bytes, completions: tuple[bytes, ...]) -> None:
    """Judge a JPEG without its end by what the decoder makes of it with other data behind it.

    Raises:
        InvalidImageError: data of pixels is missing.
    """
    if not completions or any(_digest(each) != _digest(content) for each in completions):
        raise InvalidImageError(DAMAGED)


def _digest(content: bytes) -> bytes:
    """Of all pixels, in strips: a copy of them all would be as large as the picture."""
    digest = hashlib.blake2b()
    with Image.open(BytesIO(content), formats=["JPEG"]) as image:
        for top in range(0, image.height, _DIGEST_ROWS):
            digest.update(image.crop((0, top, image.width, min(top + _DIGEST_ROWS, image.height))).tobytes())
    return digest.digest()


def _to_rgb(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """Eight bits of red, green and blue, on the background where a pixel is transparent."""
    image.load()
    if image.mode in ("P", "PA") and image.palette is None:
        raise InvalidImageError(DAMAGED)
    if image.mode in ("I", "F"):
        raise InvalidImageError("the image has samples of 32 bits, whose range is not known; send one with 8 or 16")
    if image.mode == "LAB":
        raise InvalidImageError("the image has Lab colours; send one with RGB, grey or CMYK")
    if image.mode.startswith("I;16"):
        # Pillow alone would clip what is above 255.
        samples = np.asarray(image)
        picture = Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")
        transparent = image.info.get("transparency")
        if transparent is not None:
            picture.paste(background, mask=Image.fromarray(samples == transparent))
        return picture
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        picture = Image.new("RGB", image.size, background)
        picture.paste(seen, mask=seen)
        return picture
    return image if image.mode == "RGB" else image.convert("RGB")


def sample_image(form: str = "PNG", *, max_pixels: int = 1024) -> bytes:
    """A small picture, always the same: the built-in sample that deployment checks predict.

    Args:
        form: Pillow's name of its format.
        max_pixels: it has no more of them.
    """
    side = min(32, math.isqrt(max_pixels))
    y, x = np.mgrid[0:side, 0:side].astype(np.uint8)
    disc = ((x.astype(int) - side // 2) ** 2 + (y.astype(int) - side // 2) ** 2 < side * side * 100 // 1024).astype(
        np.uint8
    )
    file = BytesIO()
    Image.fromarray(np.stack([x * 8, y * 8, disc * 255], axis=-1)).save(file, form, optimize=True)
    return file.getvalue()
