"""From image files to arrays."""

from __future__ import annotations

import re
from collections.abc import Collection
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from serving.codecs.image_decoding import check_image, has_good_header, load_image, prepare_formats, sample_image
from serving.core.errors import InvalidImageError
from serving.settings.models import SAFE_FORMATS, ImageSettings
from serving.store.models import ImagePreprocessing
from tests.pictures import encoded, huge_png, picture, pixels

ALLOWED = frozenset(ImageSettings().allowed_formats)
MOST_PIXELS = 1_000_000
KERAS = ImagePreprocessing(width=299, height=299)
"""What a graph with Keras' preprocessing inside takes."""


def load(content: bytes, formats: frozenset[str] = ALLOWED, max_pixels: int = MOST_PIXELS) -> np.ndarray:
    return load_image(content, KERAS, formats=formats, max_pixels=max_pixels).array


@pytest.fixture(scope="module", autouse=True)
def _all_formats() -> None:
    prepare_formats(SAFE_FORMATS)


@pytest.fixture(scope="module")
def keras() -> Any:
    from train import tensorflow_setup

    tensorflow_setup.load()
    import keras

    return keras


AS_KERAS = {
    "jpeg": encoded(picture(), "JPEG", quality=90),
    "jpeg-progressive": encoded(picture(), "JPEG", progressive=True),
    "jpeg-grey": encoded(picture("L"), "JPEG"),
    "jpeg-cmyk": encoded(picture("CMYK"), "JPEG"),
    "jpeg-large": encoded(picture(height=480, width=640), "JPEG", quality=90),
    "jpeg-299": encoded(picture(height=299, width=299), "JPEG"),
    "jpeg-one-pixel": encoded(picture(height=1, width=1), "JPEG"),
    "png": encoded(picture(), "PNG"),
    "png-grey": encoded(picture("L"), "PNG"),
    "png-black-and-white": encoded(picture("1"), "PNG"),
    "png-palette": encoded(picture("P"), "PNG"),
    "png-alpha": encoded(picture("RGBA"), "PNG"),
    "png-grey-alpha": encoded(picture("LA"), "PNG"),
    "webp": encoded(picture(), "WEBP", quality=80),
    "bmp": encoded(picture(), "BMP"),
    "gif": encoded(picture("P"), "GIF"),
}


@pytest.mark.parametrize("name", AS_KERAS)
def test_it_agrees_with_keras_to_the_last_bit(keras: Any, name: str) -> None:
    file = BytesIO(AS_KERAS[name])
    theirs = keras.utils.img_to_array(
        keras.utils.load_img(file, target_size=(299, 299), interpolation="bilinear"), dtype="uint8"
    )
    ours = load(AS_KERAS[name])
    assert (ours.dtype, ours.shape) == (np.uint8, (299, 299, 3))
    np.testing.assert_array_equal(ours, theirs)


# How the rows and columns of the file lie in the upright picture (EXIF 2.32, table 6).
AS_STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}


def _turned(orientation: object, stored: np.ndarray, kind: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [("PNG", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 98, "subsampling": 0}, 12)],
)
def test_every_orientation_is_turned_upright(
    kind: str, options: dict[str, Any], tolerance: int, orientation: int
) -> None:
    upright = pixels()
    turned = load(_turned(orientation, AS_STORED[orientation](upright), kind, **options))
    difference = np.abs(turned.astype(int) - load(encoded(Image.fromarray(upright), "PNG")).astype(int))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_upright(orientation: int) -> None:
    np.testing.assert_array_equal(load(_turned(orientation, pixels(), "PNG")), load(encoded(picture(), "PNG")))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_says_nothing_about_the_picture(exif: bytes) -> None:
    plain = load(encoded(picture(), "JPEG"))
    np.testing.assert_array_equal(load(encoded(picture(), "JPEG", exif=exif)), plain)


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    eight = pixels()[..., 0]
    sixteen = encoded(Image.fromarray(eight.astype(np.uint16) * 256 + 7), "PNG")
    assert Image.open(BytesIO(sixteen)).mode.startswith("I")
    np.testing.assert_array_equal(load(sixteen), load(encoded(Image.fromarray(eight), "PNG")))


def test_of_an_animation_the_first_frame_is_taken() -> None:
    first, second = picture("P"), Image.fromarray(255 - pixels()).convert("P")
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        animation = encoded(first, kind, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(load(animation), load(encoded(first, kind, **options)))
        assert not np.array_equal(load(animation), load(encoded(second, kind, **options)))


def test_lossless_formats_agree() -> None:
    expected = load(encoded(picture(), "PNG"))
    np.testing.assert_array_equal(load(encoded(picture(), "BMP")), expected)
    np.testing.assert_array_equal(load(encoded(picture(), "WEBP", lossless=True)), expected)


def test_pixels_are_those_of_the_file() -> None:
    assert load_image(encoded(picture(), "PNG"), KERAS, formats=ALLOWED, max_pixels=MOST_PIXELS).pixels == 64 * 48


def test_the_header_alone_tells_the_pixels_and_what_is_refused() -> None:
    good = encoded(picture(), "PNG")
    assert check_image(good, formats=ALLOWED, max_pixels=64 * 48) == 64 * 48
    assert check_image(good[:200], formats=ALLOWED, max_pixels=MOST_PIXELS) == 64 * 48, "nothing is decoded"
    for content in (good[:20], b"", b"hello", encoded(picture(), "TIFF"), huge_png()):
        with pytest.raises(InvalidImageError) as refused:
            check_image(content, formats=ALLOWED, max_pixels=MOST_PIXELS)
        with pytest.raises(InvalidImageError, match=re.escape(refused.value.message)):
            load(content)
    with pytest.raises(InvalidImageError, match="at most 3071 are allowed"):
        check_image(good, formats=ALLOWED, max_pixels=64 * 48 - 1)


def test_a_short_header_of_a_jpeg_is_judged_at_once() -> None:
    jpeg, png = (encoded(picture(), name) for name in ("JPEG", "PNG"))

    def good(content: bytes, *, formats: Collection[str] = ALLOWED, max_pixels: int = 64 * 48) -> bool:
        return has_good_header(content, formats=formats, max_pixels=max_pixels)

    assert good(jpeg)
    assert good(jpeg + bytes(200_000)), "what follows is not looked at"
    assert not good(jpeg, max_pixels=64 * 48 - 1)
    assert not good(jpeg, formats=("PNG",))
    assert not good(png), "its header may hold compressed text"
    assert not good(jpeg[:2] + b"\xff\xe5\x00\x02" * 5000 + jpeg[2:]), "it is long"
    assert not good(jpeg[:2] + bytes(100))
    assert not good(b"")


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "PCX", "TGA"])
def test_other_formats_are_refused_and_the_allowed_ones_named(kind: str) -> None:
    with pytest.raises(InvalidImageError, match=r"allowed format \(AVIF, BMP, GIF, JPEG, PNG, WEBP\)"):
        load(encoded(picture(), kind))


def test_tiff_is_read_where_settings_allow_it() -> None:
    np.testing.assert_array_equal(load(encoded(picture(), "TIFF"), SAFE_FORMATS), load(encoded(picture(), "PNG")))


def test_a_format_that_is_not_allowed_is_not_decoded_by_its_content_type_or_name() -> None:
    with pytest.raises(InvalidImageError, match=r"allowed format \(JPEG\)"):
        load(encoded(picture(), "PNG"), frozenset({"JPEG"}))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", load)


@pytest.mark.usefixtures("no_decoding")
def test_a_huge_picture_is_refused_from_its_header() -> None:
    with pytest.raises(InvalidImageError, match="100000 × 100000 pixels; at most 1000000 are allowed"):
        load(huge_png())


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("kind", sorted(SAFE_FORMATS))
def test_one_pixel_too_many_is_refused_before_decoding(kind: str) -> None:
    content = encoded(picture("P" if kind == "GIF" else "RGB"), kind)
    with pytest.raises(InvalidImageError, match="64 × 48 pixels"):
        load(content, SAFE_FORMATS, 64 * 48 - 1)


@pytest.mark.parametrize("kind", sorted(SAFE_FORMATS))
def test_the_limit_itself_is_allowed(kind: str) -> None:
    load(encoded(picture("P" if kind == "GIF" else "RGB"), kind), SAFE_FORMATS, 64 * 48)


@pytest.mark.parametrize("kind", sorted(ALLOWED))
def test_a_truncated_file_is_refused(kind: str) -> None:
    content = encoded(picture("P" if kind == "GIF" else "RGB"), kind)
    with pytest.raises(InvalidImageError):
        load(content[: len(content) // 2])


def test_messages_say_nothing_internal() -> None:
    with pytest.raises(InvalidImageError) as caught:
        load(encoded(picture(), "PNG")[:500])
    assert caught.value.message == "the image is truncated or damaged and cannot be decoded"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidImageError):
        load(content)


def test_the_built_in_sample_is_always_the_same_small_png() -> None:
    content = sample_image()
    assert content == sample_image()
    assert Image.open(BytesIO(content)).format == "PNG"
    assert len(content) < 2000
    assert len(np.unique(load(content))) > 100
