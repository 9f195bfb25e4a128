"""Make the files of this directory anew, where the programs that README.md names are installed.

Each shows the four quarters that tests/codecs/test_image_formats.py expects, written by a program that is not Pillow
wherever there is one. What no program writes is put together here, byte by byte.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import imagecodecs  # type: ignore[import-not-found]
import numpy as np

HERE = Path(__file__).parent
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
COLOURS = (RED, GREEN, BLUE, YELLOW)
GREYS = (51, 102, 153, 204)
# How ImageMagick makes what is stored of what is upright.
STORED = {
    1: [],
    2: ["-flop"],
    3: ["-rotate", "180"],
    4: ["-flip"],
    5: ["-transpose"],
    6: ["-rotate", "270"],
    7: ["-transverse"],
    8: ["-rotate", "90"],
}
ORIENTATIONS = (
    *("TopLeft", "TopRight", "BottomRight", "BottomLeft"),
    *("LeftTop", "RightTop", "RightBottom", "LeftBottom"),
)


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def quarters(values: Sequence[object]) -> np.ndarray:
    """[32, 64] or [32, 64, channels]: quarters of 32 × 16 pixels."""
    top = np.concatenate([np.tile(np.array(value), (16, 32, 1)) for value in values[:2]], axis=1)
    bottom = np.concatenate([np.tile(np.array(value), (16, 32, 1)) for value in values[2:]], axis=1)
    return np.concatenate([top, bottom]).squeeze()


def pnm(path: Path, pixels: np.ndarray) -> Path:
    kind = "P6" if pixels.ndim == 3 else "P5"
    path.write_bytes(f"{kind}\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.astype(np.uint8).tobytes())
    return path


def png(name: str, depth: int, colour: int, rows: Iterable[bytes], **chunks: bytes) -> None:
    """A PNG of 64 × 32 pixels; `chunks` stand before the pixels, in their order."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 64, 32, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    parts = [b"\x89PNG\r\n\x1a\n"]
    if "CgBI" in chunks:
        parts.append(chunk(b"CgBI", chunks.pop("CgBI")))
    parts += [chunk(b"IHDR", header), *(chunk(kind.encode(), body) for kind, body in chunks.items())]
    (HERE / name).write_bytes(b"".join((*parts, chunk(b"IDAT", pixels), chunk(b"IEND", b""))))


def packed(samples: Sequence[int], depth: int) -> list[bytes]:
    """Rows of the four samples in `depth` bits."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in quarters(samples)]
    bits = np.unpackbits(quarters(samples).astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - depth :]
    return [np.packbits(row.ravel()).tobytes() for row in bits]


def jpegs(colours: Path, greys: Path) -> None:
    for name, *options in (
        ("baseline.jpg",),
        ("progressive.jpg", "-progressive"),
        ("arithmetic.jpg", "-arithmetic"),
        ("arithmetic_progressive.jpg", "-arithmetic", "-progressive"),
        ("restarts.jpg", "-restart", "1"),
        ("grey.jpg", "-grayscale"),
        ("rgb.jpg", "-rgb"),
    ):
        run("cjpeg", "-quality", 90, *options, "-outfile", HERE / name, greys if name == "grey.jpg" else colours)
    for name in ("baseline", "progressive"):
        (HERE / f"{name}_no_end.jpg").write_bytes((HERE / f"{name}.jpg").read_bytes().removesuffix(b"\xff\xd9"))
    # What is stored is 255 - ink, as Photoshop does it.
    run("convert", colours, "-colorspace", "CMYK", "-quality", 90, HERE / "ycck_imagemagick.jpg")
    inverted = 255 - quarters([(0, 255, 255, 0), (255, 0, 255, 0), (255, 255, 0, 0), (0, 0, 255, 0)]).astype(np.uint8)
    ycck = imagecodecs.jpeg8_encode(inverted, level=90, colorspace="CMYK", outcolorspace="YCCK")
    (HERE / "ycck.jpg").write_bytes(ycck)
    cmyk = imagecodecs.jpeg8_encode(inverted, level=90, colorspace="CMYK", outcolorspace="CMYK")
    (HERE / "cmyk.jpg").write_bytes(cmyk)
    run("exiftool", "-q", "-Adobe:All=", "-o", HERE / "cmyk_no_adobe.jpg", HERE / "cmyk.jpg")
    pixels = quarters(COLOURS).astype(np.uint8)
    (HERE / "lossless.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, lossless=True))
    twelve = quarters(GREYS).astype(np.uint16) << 4
    (HERE / "twelve_bits.jpg").write_bytes(imagecodecs.jpeg8_encode(twelve, bitspersample=12))
    (HERE / "jpeg_ls.jls").write_bytes(imagecodecs.jpegls_encode(pixels))
    jpeg = (HERE / "baseline.jpg").read_bytes()

    def with_segment(name: str, marker: int, body: bytes, after: bytes = b"") -> None:
        segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
        (HERE / name).write_bytes(jpeg[:2] + segment + jpeg[2:] + after)

    with_segment("bad_profile.jpg", 0xE2, b"ICC_PROFILE\0")
    with_segment("bad_photoshop.jpg", 0xED, b"Photoshop 3.0\x008BIM\x04\x04")
    with_segment("bad_exif.jpg", 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")
    # Two pictures, as telephones store a photograph and its depth. CIPA DC-007: version, number, sizes and places.
    other = (HERE / "grey.jpg").read_bytes()
    entries = struct.pack("<IIIHH", 0x20030000, len(jpeg) + 90, 0, 0, 0)
    entries += struct.pack("<IIIHH", 0, len(other), len(jpeg) + 90 - 10, 0, 0)
    tags = struct.pack("<H", 3) + struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, 2)
    tags += struct.pack("<HHII", 0xB002, 7, 32, 50) + struct.pack("<I", 0)
    with_segment("two_pictures.mpo", 0xE2, b"MPF\0II*\0\x08\0\0\0" + tags + entries, other)
    with_segment("bad_index.mpo", 0xE2, b"MPF\0II*\0\x08\0\0\0" + tags[:9], other)
    with_segment("profile.jpg", 0xE2, b"ICC_PROFILE\0\x01\x01" + imagecodecs.cms_profile("adobergb"))


def pngs(colours: Path, greys: Path, alpha: Path) -> None:
    run("convert", colours, f"PNG48:{HERE / 'rgb16.png'}")
    run("convert", colours, "-interlace", "PNG", f"PNG24:{HERE / 'interlaced.png'}")
    run("convert", colours, f"PNG8:{HERE / 'palette.png'}")
    run("convert", greys, "-depth", 16, "-define", "png:color-type=0", HERE / "grey16.png")
    run("convert", greys, "-threshold", "50%", "-define", "png:bit-depth=1", HERE / "one_bit.png")
    run("convert", alpha, f"PNG32:{HERE / 'rgba.png'}")
    run("convert", alpha, f"PNG64:{HERE / 'rgba16.png'}")
    run("convert", alpha, f"PNG8:{HERE / 'palette_alpha.png'}")
    run(
        "convert",
        greys,
        alpha,
        "-alpha",
        "on",
        "-compose",
        "CopyOpacity",
        "-composite",
        "-define",
        "png:color-type=4",
        HERE / "la.png",
    )
    frames = [colours.with_name(f"frame{number}.png") for number in (1, 2)]
    for source, frame in zip((colours, greys), frames, strict=True):
        run("convert", source, f"PNG24:{frame}")
    run("apngasm", HERE / "animated.png", *frames, "1", "10")
    palette = b"".join(bytes(colour) for colour in COLOURS)
    png("palette_key.png", 2, 3, packed(range(4), 2), PLTE=palette, tRNS=b"\xff\xff\xff\0")
    png("palette_alphas.png", 2, 3, packed(range(4), 2), PLTE=palette, tRNS=b"\xff\x80\xff\0")
    for depth, samples in ((2, range(4)), (4, (3, 6, 9, 12)), (8, GREYS), (16, [value * 257 for value in GREYS])):
        png(f"grey{depth}_key.png", depth, 0, packed(samples, depth), tRNS=struct.pack(">H", samples[3]))
    png("grey1_key.png", 1, 0, packed((0, 0, 0, 1), 1), tRNS=struct.pack(">H", 1))
    rgb = quarters(COLOURS)
    png("rgb_key.png", 8, 2, [row.astype(np.uint8).tobytes() for row in rgb], tRNS=struct.pack(">HHH", *YELLOW))
    key = struct.pack(">HHH", *(value * 257 for value in YELLOW))
    png("rgb16_key.png", 16, 2, [(row * 257).astype(">u2").tobytes() for row in rgb], tRNS=key)
    plain = [row.astype(np.uint8).tobytes() for row in rgb]
    png("bad_profile.png", 8, 2, plain, iCCP=b"name\0\x07nonsense")
    png("bad_frames.png", 8, 2, plain, acTL=struct.pack(">II", 2, 0), fcTL=bytes(26))
    png("xcode.png", 8, 2, plain, CgBI=bytes(4))


def others(colours: Path, greys: Path, alpha: Path) -> None:
    run("cwebp", "-quiet", "-q", 90, colours, "-o", HERE / "lossy.webp")
    run("cwebp", "-quiet", "-lossless", alpha, "-o", HERE / "alpha.webp")
    run("img2webp", "-lossless", colours, greys, "-o", HERE / "animated.webp")
    run("convert", colours, "-interlace", "GIF", HERE / "interlaced.gif")
    run("convert", alpha, HERE / "transparent.gif")
    run("convert", "-delay", 10, colours, greys, HERE / "animated.gif")
    for name, *options in (
        ("rgb.bmp", "-type", "TrueColor"),
        ("palette.bmp", "-type", "Palette"),
    ):
        run("convert", colours, *options, f"BMP3:{HERE / name}")
    run("convert", colours, "-type", "Palette", "-compress", "RLE", f"BMP3:{HERE / 'compressed.bmp'}")
    run("convert", alpha, HERE / "alpha.bmp")
    run("ffmpeg", "-v", "error", "-y", "-i", colours, "-pix_fmt", "rgb565le", HERE / "rgb565.bmp")
    run("avifenc", "--speed", 8, "--lossless", alpha, HERE / "alpha.avif")
    as_png, turned = colours.with_suffix(".png"), colours.with_name("turned.png")
    run("convert", colours, f"PNG24:{as_png}")
    run("convert", colours, "-rotate", 90, f"PNG24:{turned}")
    run("avifenc", "--speed", 8, "-d", 10, "--yuv", 444, as_png, HERE / "ten_bits.avif")
    run("avifenc", "--speed", 8, "--irot", 1, turned, HERE / "turned.avif")
    run("heif-enc", "-q", 90, "-p", "chroma=444", as_png, "-o", HERE / "photo.heic")
    floats = ("-depth", 32, "-define", "quantum:format=floating-point", "-compress", "Zip")
    for name, *options in (
        ("plain.tif",),
        ("lzw.tif", "-compress", "LZW"),
        ("zip.tif", "-compress", "Zip"),
        ("jpeg.tif", "-compress", "JPEG", "-quality", 90),
        ("rgb16.tif", "-depth", 16, "-compress", "Zip"),
        ("cmyk.tif", "-colorspace", "CMYK", "-compress", "LZW"),
        ("lab.tif", "-colorspace", "Lab", "-compress", "LZW"),
        ("float.tif", *floats),
    ):
        run("convert", colours, *(options or ("-compress", "None")), HERE / name)
    run("convert", alpha, "-compress", "LZW", HERE / "alpha.tif")
    run("convert", greys, "-depth", 16, "-compress", "LZW", HERE / "grey16.tif")
    run("convert", greys, *floats, HERE / "grey_float.tif")
    run("convert", greys, "-threshold", "50%", "-compress", "Group4", HERE / "one_bit.tif")
    run("convert", colours, greys, "-compress", "LZW", HERE / "two_pages.tif")
    run("tiffcp", "-8", HERE / "lzw.tif", HERE / "big.tif")
    run("tiffcp", "-t", "-w", 16, "-l", 16, "-c", "lzw", HERE / "plain.tif", HERE / "tiled.tif")
    run("tiffcp", "-p", "separate", HERE / "lzw.tif", HERE / "planes.tif")
    (HERE / "plain.tif").unlink()
    run("convert", colours, "-resize", "16x16!", HERE / "icon.ico")
    run("convert", colours, "-compress", "RLE", HERE / "layers.psd")
    pixels = quarters(COLOURS).astype(np.uint8)
    (HERE / "photo.jp2").write_bytes(imagecodecs.jpeg2k_encode(pixels, level=40))
    (HERE / "photo.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels))


def orientations(colours: Path) -> None:
    for number, options in STORED.items():
        for suffix, more in (("jpg", ["-quality", 90]), ("png", []), ("webp", ["-define", "webp:lossless=true"])):
            target = HERE / f"orientation{number}.{suffix}"
            run("convert", colours, *options, "+repage", *more, target)
            run("exiftool", "-q", "-overwrite_original", f"-Orientation#={number}", target)
        as_tiff = ("-orient", ORIENTATIONS[number - 1], "-compress", "LZW")
        run("convert", colours, *options, "+repage", *as_tiff, HERE / f"orientation{number}.tif")


def main() -> None:
    for path in HERE.iterdir():
        if path.is_file() and path.suffix not in (".py", ".md"):
            path.unlink()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        colours = pnm(place / "colours.ppm", quarters(COLOURS))
        greys = pnm(place / "greys.pgm", quarters(GREYS))
        opaque = pnm(place / "opaque.pgm", quarters((255, 255, 255, 0)))
        alpha = place / "alpha.png"
        # What is transparent is black below, so that a reader that drops transparency shows it.
        dark = pnm(place / "dark.ppm", quarters((RED, GREEN, BLUE, (0, 0, 0))))
        run("convert", dark, opaque, "-alpha", "off", "-compose", "CopyOpacity", "-composite", f"PNG32:{alpha}")
        jpegs(colours, greys)
        pngs(colours, greys, alpha)
        others(colours, greys, alpha)
        orientations(colours)


if __name__ == "__main__":
    main()
