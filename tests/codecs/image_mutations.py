"""Decode damaged images within a limit of memory: `python -m tests.codecs.image_mutations FORMAT COUNT SEED`.

Prints one JSON object: how many were decoded and refused, the slowest in seconds, and what was neither, with the file
that it was written to.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from serving.codecs.image_decoding import load_image, prepare_formats
from serving.core.errors import InvalidImageError
from serving.settings.models import ImageSettings
from tests.codecs.image_files import AS_IT_IS, FILES, FORMATS

MEMORY = 3 << 30
"""Of address space, libraries included. A picture of 50 million pixels takes 200 MB, up to three times at once."""
_NUMBERS = (
    0,
    1,
    2,
    63,
    127,
    128,
    255,
    256,
    4095,
    7071,
    16_383,
    32_767,
    32_768,
    65_535,
    50_000_000,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_PNG = b"\x89PNG\r\n\x1a\n"


def files_of(kind: str) -> list[bytes]:
    return [content for name, content in FILES.items() if FORMATS.get(f".{name.split('.')[1]}") == kind]


def mutations(kind: str, count: int, seed: int) -> Iterator[bytes]:
    """`count` files of a format, each damaged in one to eight places."""
    files, numbers = files_of(kind), random.Random(f"{kind} {seed}")
    for _ in range(count):
        content = bytearray(numbers.choice(files))
        for _ in range(numbers.choice((1, 1, 1, 2, 3, 8))):
            numbers.choice(_WAYS)(content, numbers, files)
            if not content:
                break
        yield _with_checksums(bytes(content)) if kind == "PNG" and numbers.random() < 0.8 else bytes(content)


def _place(content: bytearray, numbers: random.Random) -> int:
    """Headers decide most, so that they are hit more often than their share of the bytes."""
    return numbers.randrange(min(len(content), numbers.choice((32, 128, 512, len(content)))))


def _flip(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    content[_place(content, numbers)] ^= 1 << numbers.randrange(8)


def _cut(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    del content[numbers.randrange(len(content)) :]


def _remove(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    place = _place(content, numbers)
    del content[place : place + numbers.randrange(1, 65)]


def _insert(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    place = _place(content, numbers)
    content[place:place] = numbers.randbytes(numbers.randrange(1, 9))


def _splice(content: bytearray, numbers: random.Random, files: list[bytes]) -> None:
    other = numbers.choice(files)
    content[_place(content, numbers) :] = other[numbers.randrange(len(other)) :]


def _repeat(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    start = _place(content, numbers)
    part = content[start : start + numbers.randrange(1, 257)]
    content[start:start] = part * numbers.choice((1, 1, 2, 50))


def _number(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    """Lengths, offsets and counts are numbers of two to four bytes."""
    form = numbers.choice((">H", "<H", ">I", "<I"))
    value = numbers.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
    place = _place(content, numbers)
    content[place : place + struct.calcsize(form)] = struct.pack(form, value)


def _size(content: bytearray, numbers: random.Random, _: list[bytes]) -> None:
    """Where 64 or 32, or one less, stands as a number, there is likely the width or height."""
    form = numbers.choice((">H", "<H", ">I", "<I"))
    was = struct.pack(form, numbers.choice((64, 32, 63, 31)))
    place = content.find(was)
    if place >= 0:
        value = numbers.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
        content[place : place + len(was)] = struct.pack(form, value)


_WAYS = (_flip, _flip, _cut, _remove, _insert, _splice, _repeat, _number, _number, _size, _size)


def _with_checksums(content: bytes) -> bytes:
    """Otherwise most of what is damaged in a PNG would end at its checksum."""
    parts, place = [content[:8]], 8
    while content.startswith(_PNG) and place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        parts.append(content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join((*parts, content[place:]))


def main() -> None:
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    prepare_formats([kind])
    decoded = refused = 0
    slowest = 0.0
    failures: list[str] = []
    for content in mutations(kind, count, seed):
        begun = time.perf_counter()
        try:
            load_image(content, AS_IT_IS, formats=[kind], max_pixels=ImageSettings().max_image_pixels)
            decoded += 1
        except InvalidImageError:
            refused += 1
        except Exception as error:  # noqa: BLE001 - anything else is what is looked for
            with tempfile.NamedTemporaryFile(suffix=f".{kind.lower()}", delete=False) as file:
                file.write(content)
            failures.append(f"{type(error).__name__}: {error} ({Path(file.name)})")
        slowest = max(slowest, time.perf_counter() - begun)
    print(json.dumps({"decoded": decoded, "refused": refused, "slowest": round(slowest, 3), "failures": failures}))


if __name__ == "__main__":
    main()
