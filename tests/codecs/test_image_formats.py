"""Images as programs write them: each is decoded to what it shows, or refused by what it is."""

from __future__ import annotations

import re
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.codecs.image_containers import orientation
from serving.codecs.image_decoding import check_image, has_good_header, load_image, prepare_formats, sample_image
from serving.codecs.image_kinds import recognise
from serving.core.errors import InvalidImageError, ModelError
from serving.settings.models import SAFE_FORMATS, ImageSettings
from serving.store.models import ImagePreprocessing
from tests.codecs.image_files import AS_IT_IS, COLOURS, FIELD, FILES, FORMATS, REFUSED, SHOWN, shows
from tests.docs import readme
from tests.pictures import huge_png

MOST_PIXELS = 1_000_000
PAGE = readme.ROOT / "docs" / "image_formats.md"
JPEG = FILES["baseline.jpg"]
PNG = FILES["rgba.png"]


@pytest.fixture(autouse=True, scope="module")
def _all_formats() -> None:
    prepare_formats(SAFE_FORMATS)


@pytest.fixture(autouse=True)
def _as_in_a_process() -> Iterator[None]:
    """pytest puts its own filters in the place of those that the module sets for its process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        yield


def load(content: bytes, **options: Any) -> np.ndarray[Any, Any]:
    options = {"formats": SAFE_FORMATS, "max_pixels": MOST_PIXELS} | options
    return load_image(content, options.pop("preprocessing", AS_IT_IS), **options).array


def error_of(content: bytes, **options: Any) -> str:
    with pytest.raises(InvalidImageError) as caught:
        load(content, **options)
    return caught.value.message


@pytest.mark.parametrize("name", SHOWN)
def test_a_file_is_decoded_to_what_it_shows(name: str) -> None:
    assert check_image(FILES[name], formats=SAFE_FORMATS, max_pixels=MOST_PIXELS) == 64 * 32
    array = load(FILES[name])
    assert (array.dtype, array.shape) == (np.uint8, (32, 64, 3))
    assert shows(array, SHOWN[name], tolerance=10 if name.endswith((".heic", ".jpg", "lossy.webp")) else 4)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused_by_what_it_is(name: str) -> None:
    assert re.search(REFUSED[name], error_of(FILES[name]))


OTHERS = {
    b"<svg xmlns='http://www.w3.org/2000/svg'/>": "an SVG",
    b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>": "an SVG",
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title>": "an HTML page, perhaps the error page of a proxy",
    b"\n <HTML><BODY>": "an HTML page",
    b"<html><body><svg></svg>": "an HTML page",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>": "XML",
    b'{"error": "not found"}': "JSON",
    b"%PDF-1.7\n": "a PDF",
    b"%!PS-Adobe-3.0 EPSF-3.0\n": "PostScript",
    b"P6\n2 2\n255\n": "a PNM",
    b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41": "a video",
    b"\x1a\x45\xdf\xa3\x9f": "a video",
    b"RIFF\x24\0\0\0AVI LIST": "a video",
    b"II*\0\x10\0\0\0CR\x02\0": "a raw file of a camera",
    b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom": "a raw file of a camera",
    b"PK\x03\x04\x14\0": "a ZIP archive",
    b"\x1f\x8b\x08\0": "a file that gzip has compressed",
    b"\xff\x0a\xfa\x1f": "a JPEG XL",
    b"data:image/png;base64,iVBOR": "a data URL",
    bytes(128) + b"DICM": "a DICOM file",
}


@pytest.mark.parametrize("content", OTHERS)
def test_what_is_no_picture_of_pixels_is_named(content: bytes) -> None:
    message = error_of(content, formats={"JPEG", "PNG"})
    assert message.startswith(f"this is {OTHERS[content]}")
    assert message.endswith("; send an image in an allowed format (JPEG, PNG)")


@pytest.mark.parametrize(
    "content", [b"hello", b"\r\n" + JPEG, b"\0" + PNG, b"GIF", b"BMW is a maker of cars, motors", PNG[1:]]
)
def test_what_begins_like_nothing_is_shown_as_it_begins(content: bytes) -> None:
    assert recognise(content) is None
    assert f"this is not an image: it begins with {content[:8].hex(' ')} in hexadecimal; send " in error_of(content)


@pytest.mark.parametrize("name", ["lzw.tif", "photo.heic", "alpha.avif"])
def test_a_format_that_could_be_allowed_says_how(name: str) -> None:
    message = error_of(FILES[name], formats={"JPEG", "PNG"})
    kind = FORMATS["." + name.split(".")[1]]
    assert (
        f"allowed format (JPEG, PNG), or ask the operator to allow {kind} with the setting image.allowed_forma"
        in message
    )
    assert ("extra `heif`" in message) == (kind == "HEIF")


def test_the_content_decides() -> None:
    for name, content in FILES.items():
        kind = recognise(content)
        suffix = f".{name.split('.')[1]}"
        assert (kind is not None and kind.format == FORMATS.get(suffix, "")) or name == "jpeg_ls.jls"


def test_heif_without_its_extra_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    prepare_formats({"JPEG", "AVIF"})
    with pytest.raises(ModelError, match=re.escape("pip install 'model-serving[heif]'")):
        prepare_formats({"JPEG", "HEIF"})


def test_a_pillow_without_a_format_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "avif")
    prepare_formats({"JPEG", "WEBP"})
    with pytest.raises(ModelError, match="has AVIF, which the installed Pillow cannot decode"):
        prepare_formats({"JPEG", "AVIF"})


# Ends


@pytest.mark.parametrize("name", ["baseline.jpg", "progressive.jpg", "restarts.jpg", "grey.jpg", "rgb.jpg", "ycck.jpg"])
def test_a_jpeg_without_its_end_is_taken_and_one_with_less_is_not(name: str) -> None:
    content = FILES[name]
    assert content.endswith(b"\xff\xd9")
    whole = load(content)
    for end in (1, 2):
        np.testing.assert_array_equal(load(content[:-end]), whole)
    data = content.index(b"\xff\xda")
    for end in range(data, len(content) - 4):
        # The last bytes may be bits of padding only.
        assert error_of(content[:end]) == "the image is truncated or damaged and cannot be decoded", end


@pytest.mark.parametrize(
    "name",
    [
        "baseline.jpg",
        "progressive.jpg",
        "rgb_key.png",
        "lossy.webp",
        "interlaced.gif",
        "rgb.bmp",
        "zip.tif",
        "alpha.avif",
        "photo.heic",
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_part_of_a_file_is_refused(name: str, share: float) -> None:
    assert error_of(FILES[name][: int(len(FILES[name]) * share)])


@pytest.mark.parametrize("name", [name for name in SHOWN if "no_end" not in name])
def test_what_follows_the_end_is_ignored(name: str) -> None:
    np.testing.assert_array_equal(load(FILES[name] + b"\0garbage\xff\xd8" * 100), load(FILES[name]))


def test_field_no_end_marker() -> None:
    content = (FIELD / "no_end_marker.jpg").read_bytes()
    np.testing.assert_array_equal(load(content), load(content + b"\xff\xd9"))
    assert error_of(content[: len(content) // 2])


# Metadata


def test_field_large_text_chunk() -> None:
    content = (FIELD / "large_text_chunk.png").read_bytes()
    plain = content[:33] + content[content.index(b"IDAT") - 4 :]
    np.testing.assert_array_equal(load(content), load(plain))


def _with_chunk(kind: bytes, body: bytes, times: int) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return PNG[:33] + chunk * times + PNG[33:]


@pytest.mark.parametrize(
    ("kind", "head"), [(b"zTXt", b"key\0\0"), (b"iTXt", b"key\0\1\0\0\0"), (b"iCCP", b"name\0\0"), (b"tEXt", b"key\0")]
)
def test_text_and_profiles_are_not_decompressed(kind: bytes, head: bytes) -> None:
    bomb = _with_chunk(kind, head + zlib.compress(bytes(1 << 26), 9), 100)
    expected = load(PNG)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(load(bomb), expected)
        # The file is copied once.
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + (1 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0",
        b"nonsense" * 9,
    ],
)
def test_an_orientation_that_is_none_is_upright(exif: bytes) -> None:
    assert orientation(exif) == 1


@pytest.mark.parametrize(("kind", "value"), [(3, b"\0\x06\0\0"), (4, b"\0\0\0\x06"), (1, b"\x06\0\0\0")])
def test_an_orientation_may_have_any_type_of_whole_number(kind: int, value: bytes) -> None:
    entry = struct.pack(">HHI", 0x0112, kind, 1) + value
    assert orientation(b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry) == 6
    assert orientation(b"MM\0*\0\0\0\x08\0\x02" + entry) == 6, "what follows is missing"


# Transparency


def test_field_black_on_transparent() -> None:
    content = (FIELD / "black_on_transparent.png").read_bytes()
    white = load(content).astype(int)
    assert white.max() == 255
    assert white.min() < 30, "what is drawn is black"
    red = load(content, background=(255, 0, 0)).astype(int)
    np.testing.assert_array_equal(red[..., 0], white[..., 0])
    np.testing.assert_array_equal(red[..., 1], red[..., 2])
    assert (red[..., 1] <= white[..., 1]).all()


@pytest.mark.parametrize(
    "name", [name for name, quarters in SHOWN.items() if name not in ("one_bit.png", "one_bit.tif")]
)
def test_the_background_is_that_of_the_settings(name: str) -> None:
    shown = SHOWN[name]
    if shown[3] == (255, 255, 255):
        shown = (*shown[:3], (10, 20, 30))
        if name == "palette_alphas.png":
            shown = (shown[0], (5, 138, 15), *shown[2:])
    assert shows(load(FILES[name], background=(10, 20, 30)), shown, tolerance=10)


# Sizes


@pytest.mark.parametrize(("width", "height"), [(1, 65_535), (65_535, 1), (1, 2000), (3000, 2)])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_strip_takes_no_more_memory_than_a_picture(resize: Any, width: int, height: int) -> None:
    """A crop that enlarged it first would take 256 × 256 × 65,535 pixels."""
    preprocessing = ImagePreprocessing(
        width=224, height=224, resize=resize, **({"shortest": 256} if resize == "crop" else {})
    )
    strip = _grey(width, height)
    assert load(strip, preprocessing=preprocessing).shape == (224, 224, 3)


def _grey(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_side_is_limited_too() -> None:
    assert error_of(huge_png(65_536, 1)) == "the image has 65536 × 1 pixels; at most 65535 are allowed on a side"


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0)])
def test_a_picture_without_pixels_is_refused(width: int, height: int) -> None:
    assert error_of(huge_png(width, height)) == "this is a PNG that is damaged, or of a variant that is not decoded"


def test_a_jpeg_with_scans_without_end_is_refused() -> None:
    """Each takes time for all pixels, however few bytes it has."""
    content = FILES["progressive.jpg"]
    last = content.rindex(b"\xff\xda")
    assert load(content[:-2] + content[last:-2] * 80 + b"\xff\xd9").shape == (32, 64, 3)
    assert "more than 100 scans" in error_of(content[:-2] + content[last:-2] * 100 + b"\xff\xd9")


def test_the_quick_look_and_the_slow_one_agree() -> None:
    for name, content in FILES.items():
        if has_good_header(content, formats=SAFE_FORMATS, max_pixels=MOST_PIXELS):
            assert name in SHOWN
            assert FORMATS["." + name.split(".")[1]] == "JPEG"


# The sample


@pytest.mark.parametrize("form", sorted(SAFE_FORMATS))
def test_the_sample_can_have_every_format(form: str) -> None:
    assert load(sample_image(form), formats={form}, max_pixels=1024).shape == (32, 64, 3)
    assert load(sample_image(form, max_pixels=99), formats={form}, max_pixels=99).shape == (32, 64, 3)


# The document


def test_the_table_has_the_formats_of_the_settings_and_each_has_files() -> None:
    table = readme.rows("| format | by default | what is taken | what is refused |", PAGE)
    formats = {readme.code(row[0])[0]: row for row in table}
    assert set(formats) == SAFE_FORMATS
    assert {name for name, row in formats.items() if row[1] == "yes"} == set(ImageSettings().allowed_formats)
    shown, refused = (
        {FORMATS[suffix] for suffix in (f".{name.split('.')[1]}" for name in names) if suffix in FORMATS}
        for names in (SHOWN, REFUSED)
    )
    assert shown == SAFE_FORMATS
    assert {name for name, row in formats.items() if row[3].strip()} == refused


def test_the_first_four_colours_are_told_apart() -> None:
    assert not shows(load(FILES["orientation1.png"])[::-1], COLOURS)
    assert not shows(load(FILES["orientation1.png"])[:, ::-1], COLOURS)


def test_there_is_one_decoder() -> None:
    """Routes, jobs, rows and protocols get their pixels from it; `image.py` takes the names of content types only."""
    users = {
        path.name for path in (readme.ROOT / "serving").rglob("*.py") if re.search(r"\bPIL\b", path.read_text("utf-8"))
    }
    assert users == {"image_decoding.py", "image.py"}
    assert "Image.open" not in (readme.ROOT / "serving" / "codecs" / "image.py").read_text("utf-8")


def test_a_gif_does_not_take_memory_for_a_picture_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frame may lie far off its screen. Pillow makes room for it while it opens the file."""

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("PIL.Image.open", opened)
    content = bytearray(FILES["interlaced.gif"])
    frame = content.index(b",\0\0\0\0")
    content[frame + 1 : frame + 5] = struct.pack("<HH", 60_000, 60_000)
    assert error_of(bytes(content)) == "the image has 60064 × 60032 pixels; at most 1000000 are allowed: scale it down"


def test_a_tiff_does_not_take_memory_for_what_its_directory_repeats() -> None:
    content = FILES["zip.tif"] + bytes(1 << 20)
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    entries = content[place + 2 : place + 2 + 12 * count]
    other = b"".join(struct.pack("<HHII", 40_000 + tag, 1, 1 << 20, 600) for tag in range(200))
    directory = struct.pack("<H", count + 200) + entries + other + bytes(4)
    repeated = content[:4] + struct.pack("<I", len(content)) + content[8:] + directory
    tracemalloc.start()
    try:
        assert shows(load(repeated), COLOURS)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def test_parts_without_end_are_refused() -> None:
    part = b"\xff\xe5\0\x02"
    assert load(JPEG[:2] + part * 1000 + JPEG[2:]).shape == (32, 64, 3)
    assert error_of(JPEG[:2] + part * 100_000 + JPEG[2:])
