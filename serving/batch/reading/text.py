"""The text of a file, whatever its compression, encoding and line ends, in pieces that fit into memory."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from serving.batch.reading import FilesError

MOST_BYTES = 16_777_216
"""Of a line. A file without line breaks, or an archive of nothing but zeros, must not fill the memory."""
BLOCK_BYTES = 1_048_576
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, OSError)


class Block(NamedTuple):
    """Whole lines of a file.

    Attributes:
        line: number of the first one, from 1.
        content: valid UTF-8 without a byte order mark.
    """

    line: int
    content: bytes


class Record(NamedTuple):
    """A row of CSV. `line` is where it begins; `error` says why it has no values."""

    line: int
    fields: list[str]
    error: str | None = None


def compression_of(head: bytes) -> str | None:
    """What a file is compressed with, by its first bytes: names are wrong where a download has decompressed it."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def encoding_of(head: bytes, given: str | None) -> tuple[str, int]:
    """The encoding of a text and the length of its byte order mark, which is right whatever is given."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, len(mark)
    return given or "utf-8", 0


@contextmanager
def opened(filesystem: Any, name: str) -> Iterator[Any]:
    """The decompressed bytes of a file, as a stream with `read`.

    Raises:
        FilesError: the compressed data are damaged, or zstd is not installed.
    """
    with filesystem.open(name, "rb") as file:
        kind = compression_of(file.read(6))
        file.seek(0)
        if kind is None:
            yield file
            return
        try:
            with _decompressing(file, kind, name) as stream:
                yield stream
        except _DAMAGED as error:
            raise FilesError(f"{name}: the {kind} data are damaged or end too early: {error}") from error


def _decompressing(file: Any, kind: str, name: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file)
    if kind == "bz2":
        return bz2.BZ2File(file)
    if kind == "xz":
        return lzma.LZMAFile(file)
    try:
        import pyarrow as pa
    except ImportError as error:
        raise FilesError(f"{name}: zstd needs pyarrow: pip install 'model-serving[files]'") from error
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), kind)


def blocks(
    stream: Any, name: str, encoding: str | None = None, *, size: int = BLOCK_BYTES, line: int = 1
) -> Iterator[Block]:
    """The lines of a text in blocks of about `size` bytes.

    Args:
        line: the number of the first one.

    Raises:
        FilesError: a line is too long or has a NUL byte, or the text is not in the encoding.
    """
    rest = b""
    for piece in _utf8(stream, name, encoding, size):
        rest += piece
        # `\r\n` is one line end: its halves stay together.
        end = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1
        if end:
            block = Block(line, rest[:end])
            _check(block, name)
            yield block
            line += count_lines(block.content)
            rest = rest[end:]
        elif len(rest) > MOST_BYTES:
            raise FilesError(f"{name}, line {line}: the line is longer than {MOST_BYTES} bytes")
    if rest:
        block = Block(line, rest)
        _check(block, name)
        yield block


def count_lines(content: bytes) -> int:
    """The line ends in a text: `\\n`, `\\r\\n` or `\\r`."""
    if b"\r" not in content:
        return content.count(b"\n")
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")


def _utf8(stream: Any, name: str, encoding: str | None, size: int) -> Iterator[bytes]:
    piece = stream.read(size)
    encoding, mark = encoding_of(piece[:4], encoding)
    piece = piece[mark:]
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
    while piece:
        if decoder is None:
            yield piece
        else:
            yield _decoded(decoder, piece, name, encoding)
        piece = stream.read(size)
    if decoder is not None:
        yield _decoded(decoder, b"", name, encoding, final=True)


def _decoded(decoder: Any, piece: bytes, name: str, encoding: str, *, final: bool = False) -> bytes:
    try:
        return bytes(decoder.decode(piece, final).encode())
    except UnicodeError as error:
        raise FilesError(f"{name} is not in {encoding}: {error}; give another --encoding") from error


def _check(block: Block, name: str) -> None:
    content = block.content
    if b"\0" in content:
        line = block.line + count_lines(content[: content.index(b"\0")])
        half = content.count(b"\0", 0, 1000) > min(len(content), 1000) // 3
        likely = "-be" if content.startswith(b"\0") else "-le"
        hint = f"it looks like UTF-16: give --encoding utf-16{likely}" if half else "it is no text, or it is damaged"
        raise FilesError(f"{name}, line {line}: there is a NUL byte; {hint}")
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = block.line + count_lines(content[: error.start])
            raise FilesError(
                f"{name}, line {line}: the byte 0x{content[error.start]:02X} is not UTF-8; the file looks like "
                "Windows-1252 or Latin-1: give --encoding cp1252 or latin-1"
            ) from error


def records(content: Iterable[Block], name: str, delimiter: str, *, whole: bool = True) -> Iterator[Record]:
    """The rows of CSV in some blocks; quoted values may have line breaks. Empty lines are no rows.

    Args:
        whole: the blocks reach to the end of the file.

    Raises:
        FilesError: a quoted value has no end.
    """
    csv.field_size_limit(MOST_BYTES)
    first: list[int] = []
    reader = csv.reader(_lines(content, first), delimiter=delimiter, strict=True)
    while True:
        before = reader.line_num
        try:
            fields = next(reader, None)
        except csv.Error as error:
            line = first[0] + before
            if "expected after" not in str(error):
                if not whole:
                    return
                raise FilesError(
                    f"{name}, line {line}: a quoted value that begins here has no end ({error}); "
                    "a part of a large file may have been cut in it: give a larger --part-rows"
                ) from error
            yield Record(line, [], "there is text after the closing quote of a value; double quotes inside a value")
            continue
        if fields is None:
            return
        if fields:
            yield Record(first[0] + before, fields)


def _lines(content: Iterable[Block], first: list[int]) -> Iterator[str]:
    for block in content:
        if not first:
            first.append(block.line)
        yield from io.StringIO(block.content.decode(), newline="")
