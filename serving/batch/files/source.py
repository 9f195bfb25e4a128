"""What is scored: the files below a path or URL, cut into parts that are read, scored and written one by one."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from serving.batch.files import FilesError

Format = Literal["parquet", "csv"]
SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}
_HEADER_BYTES = 1 << 20
_VALUE_BYTES = 8
_LEAST_ROW_BYTES = 32
_IDENTITY = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modified")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one file: row groups of Parquet or bytes of CSV, from `first` up to `last`."""

    number: int
    file: str
    """Path in the file system of the input."""
    first: int
    last: int
    rows: int | None
    """`None` where only reading tells."""
    directory: str
    """Of the file, below the input: `date=2026-01-01` and the like are kept in the output."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """The files of an input and how to tell that they are still the same."""

    url: str
    format: Format
    files: list[dict[str, Any]]
    """Path, size, and the time of change or ETag of each."""


def open_filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL or path, and the path in it.

    Raises:
        FilesError: there is no such protocol, or the package for it is not installed.
    """
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(url.partition("://")[0])
        hint = f": pip install 'model-serving[{extra}]'" if extra else ""
        raise FilesError(f"{url}: {error}{hint}") from error
    except ValueError as error:
        raise FilesError(f"{url}: {error}") from error
    return found


def find_source(url: str) -> Source:
    """The `.parquet` or `.csv` files that `url` names: a file, a directory with all below it, or a glob.

    Raises:
        FilesError: there are none, or of both kinds.
    """
    filesystem, path = open_filesystem(url)
    if any(sign in path for sign in "*?["):
        found = filesystem.glob(path, detail=True)
        below = ""
    else:
        # what a bucket lists may be older than the file that has just been written
        filesystem.invalidate_cache()
        found = filesystem.find(path, detail=True)
        below = path
    files = {name: info for name, info in sorted(found.items()) if info.get("type") == "file" and _counts(name, below)}
    if not files:
        raise FilesError(f"{url}: there is no .parquet or .csv file")
    formats = {SUFFIXES[posixpath.splitext(name)[1].lower()] for name in files}
    if len(formats) > 1:
        raise FilesError(f"{url}: there are .parquet and .csv files; name those of one kind, as with *.parquet")
    return Source(url, formats.pop(), [_identity(name, info) for name, info in files.items()])


def _counts(name: str, below: str) -> bool:
    """Files and directories that begin with `_` or `.` are those of tools, as Spark and Arrow have it."""
    relative = name.removeprefix(below) if below != name else posixpath.basename(name)
    hidden = any(piece.startswith(("_", ".")) for piece in relative.split("/"))
    return not hidden and posixpath.splitext(name)[1].lower() in SUFFIXES


def _identity(name: str, info: dict[str, Any]) -> dict[str, Any]:
    version = next((str(info[key]) for key in _IDENTITY if info.get(key) is not None), "")
    return {"path": name, "size": info.get("size"), "version": version}


def columns_of(source: Source, file: str) -> list[str]:
    """The names of a file's columns, in order."""
    filesystem, _ = open_filesystem(source.url)
    if source.format == "csv":
        return _header(filesystem, file)[0]
    with _parquet(filesystem, file) as parquet:
        return list(parquet.schema_arrow.names)


def csv_row_bytes(columns: int) -> int:
    """About how long a line of CSV with so many values is: that decides how much text makes a batch or a part."""
    return max(_LEAST_ROW_BYTES, _VALUE_BYTES * columns)


def cut(source: Source, *, part_rows: int, csv_row_bytes: int) -> list[Part]:
    """Parts of about `part_rows` rows. Neither a row group nor a line of CSV is cut."""
    filesystem, path = open_filesystem(source.url)
    size = 1 if source.format == "parquet" else csv_row_bytes
    pieces = _row_groups if source.format == "parquet" else _byte_ranges

    def of_file(name: str) -> list[tuple[int, int, int | None]]:
        return list(pieces(filesystem, name, part_rows * size))

    names = [file["path"] for file in source.files]
    with ThreadPoolExecutor(8) as threads:  # each asks a store that may be far away
        found = list(threads.map(of_file, names))
    parts: list[Part] = []
    for name, ranges in zip(names, found, strict=True):
        directory = posixpath.dirname(posixpath.relpath(name, path)) if name.startswith(f"{path}/") else ""
        parts += [
            Part(len(parts) + number, name, first, last, rows, directory)
            for number, (first, last, rows) in enumerate(ranges)
        ]
    return parts


def _row_groups(filesystem: Any, name: str, part_rows: int) -> Iterator[tuple[int, int, int | None]]:
    with _parquet(filesystem, name) as parquet:
        metadata = parquet.metadata
    first = rows = 0
    for group in range(metadata.num_row_groups):
        new = metadata.row_group(group).num_rows
        if rows and rows + new > part_rows:
            yield first, group, rows
            first, rows = group, 0
        rows += new
    yield first, metadata.num_row_groups, rows


def _byte_ranges(filesystem: Any, name: str, part_bytes: int) -> Iterator[tuple[int, int, int | None]]:
    _, first = _header(filesystem, name)
    size = filesystem.size(name)
    with filesystem.open(name, "rb") as file:
        while size - first > part_bytes:
            file.seek(first + part_bytes)
            file.readline()  # up to the end of the line that the place is in
            yield first, file.tell(), None
            first = file.tell()
    yield first, size, None


def _header(filesystem: Any, name: str) -> tuple[list[str], int]:
    """Column names of a CSV file, and where its rows begin."""
    with filesystem.open(name, "rb") as file:
        line = file.read(_HEADER_BYTES)
    line, end, _ = line.partition(b"\n")
    try:
        names = next(csv.reader([line.decode("utf-8-sig")]), [])
    except UnicodeDecodeError as error:
        raise FilesError(f"{name}: not UTF-8") from error
    if not names:
        raise FilesError(f"{name}: the first line has to name the columns")
    return names, len(line) + len(end)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


@contextmanager
def _parquet(filesystem: Any, name: str) -> Iterator[Any]:
    with filesystem.open(name, "rb") as file:
        try:
            opened = pq.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise FilesError(f"{name}: not a Parquet file: {error}") from error
        with closing(opened):
            yield opened


def read(
    source_url: str, format_: Format, part: Part, *, batch_rows: int, csv_row_bytes: int
) -> Iterator[tuple[pa.RecordBatch, list[str] | None]]:
    """The rows of a part in batches of about `batch_rows`, one at least, which may be empty.

    A batch comes with a reason for each of its rows when they are lines of CSV with more or fewer values than there
    are columns: they have what fits.

    Raises:
        FilesError: the file is damaged.
    """
    filesystem, _ = open_filesystem(source_url)
    try:
        if format_ == "csv":
            yield from _read_csv(filesystem, part, batch_rows * csv_row_bytes)
        else:
            with _parquet(filesystem, part.file) as parquet:
                if part.rows == 0:
                    yield _empty(parquet.schema_arrow), None
                groups = range(part.first, part.last)
                for batch in parquet.iter_batches(batch_rows, row_groups=groups, use_threads=False):
                    yield batch, None
    except (pa.ArrowException, OSError) as error:
        raise FilesError(f"{part.file}: {error}") from error


def _read_csv(filesystem: Any, part: Part, batch_bytes: int) -> Iterator[tuple[pa.RecordBatch, list[str] | None]]:
    names, _ = _header(filesystem, part.file)
    if part.first >= part.last:
        yield _empty(pa.schema([(name, pa.string()) for name in names])), None
        return
    broken: list[Any] = []

    def keep(row: Any) -> str:
        broken.append(row)
        return "skip"

    with filesystem.open(part.file, "rb") as file:
        reader = pacsv.open_csv(
            pa.PythonFile(_Span(file, part.first, part.last), mode="r"),
            pacsv.ReadOptions(use_threads=False, column_names=names, block_size=batch_bytes),
            pacsv.ParseOptions(invalid_row_handler=keep),
            # CSV has no types: what is not scored is kept as it is written, `007` as `007`.
            pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
        for batch in reader:
            _refuse_line_breaks(batch, part.file)
            yield batch, None
            if broken:
                yield _torn(broken, batch.schema)
                broken.clear()
        if broken:
            yield _torn(broken, reader.schema)


def _refuse_line_breaks(batch: pa.RecordBatch, name: str) -> None:
    """A part begins after any line break, so one inside a value would tear rows apart elsewhere."""
    for column in batch.columns:
        if pa.compute.any(pa.compute.match_substring(column, "\n")).as_py():
            raise FilesError(f"{name}: a value has a line break, which CSV cannot have here; use Parquet")


def _torn(broken: list[Any], schema: pa.Schema) -> tuple[pa.RecordBatch, list[str]]:
    width = len(schema)
    lines = [next(csv.reader([row.text or ""]), [])[:width] for row in broken]
    columns = zip(*(line + [None] * (width - len(line)) for line in lines), strict=True)
    batch = pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)
    return batch, [f"{row.actual_columns} columns, the header has {row.expected_columns}" for row in broken]


class _Span(io.RawIOBase):
    """The bytes of a file from `first` up to `last`."""

    def __init__(self, file: Any, first: int, last: int) -> None:
        file.seek(first)
        self._read: Callable[[int], bytes] = file.read
        self._left = last - first

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        return content
