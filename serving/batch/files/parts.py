"""Files cut into parts, which are read in batches of Arrow's columns."""

from __future__ import annotations

import io
import posixpath
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain, count, islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv

from serving.batch.reading import FilesError
from serving.batch.reading.judge import Table
from serving.batch.reading.layout import Layout, fit, look, torn
from serving.batch.reading.lines import read_lines
from serving.batch.reading.options import ReadOptions
from serving.batch.reading.parquet import opened_parquet
from serving.batch.reading.sources import Source, open_filesystem
from serving.batch.reading.text import (
    BLOCK_BYTES,
    Block,
    Record,
    blocks,
    compression_of,
    count_lines,
    encoding_of,
    opened,
    records,
)

_VALUE_BYTES = 8
_LEAST_ROW_BYTES = 32
LINE = "line"
"""The column of a file of JSON lines: its text as it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one file, from `first` up to `last`: row groups of Parquet, bytes of CSV, the whole of other text."""

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


class Batch(NamedTuple):
    """Some rows of a part.

    Attributes:
        rows: the columns as the file has them; of text they are strings.
        errors: what is wrong with each row whatever its values are; `None` where all have been read.
        line_of: number of the line of a row, from 1 at the beginning of the part; of Parquet, of the row.
        values: the JSON of each row where the file has no columns.
    """

    rows: pa.RecordBatch
    errors: list[str] | None
    line_of: Callable[[int], int]
    values: list[str] | None = None


def csv_row_bytes(columns: int) -> int:
    """About how long a line of CSV with so many values is: that decides how much text makes a batch or a part."""
    return max(_LEAST_ROW_BYTES, _VALUE_BYTES * columns)


def cut(source: Source, options: ReadOptions, table: Table, *, part_rows: int, csv_row_bytes: int) -> list[Part]:
    """Parts of about `part_rows` rows. Neither a row group nor a row is cut; of text only plain UTF-8 is cut at all."""
    filesystem, path = open_filesystem(source.url)

    def of_file(name: str) -> list[tuple[int, int, int | None]]:
        if source.format == "parquet":
            return list(_row_groups(filesystem, name, part_rows))
        if source.format == "csv" and (mark := _mark_bytes(filesystem, name, options)) is not None:
            first = mark + layout_of(filesystem, name, table, options).skipped
            return list(_byte_ranges(filesystem, name, first, part_rows * csv_row_bytes))
        return [(0, filesystem.size(name), None)]

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
    with opened_parquet(filesystem, name) as parquet:
        metadata = parquet.metadata
    first = rows = 0
    for group in range(metadata.num_row_groups):
        new = metadata.row_group(group).num_rows
        if rows and rows + new > part_rows:
            yield first, group, rows
            first, rows = group, 0
        rows += new
    yield first, metadata.num_row_groups, rows


def _mark_bytes(filesystem: Any, name: str, options: ReadOptions) -> int | None:
    """The length of a byte order mark; `None` where no place of a file can be read without what stands before it."""
    with filesystem.open(name, "rb") as file:
        head = file.read(6)
    encoding, mark = encoding_of(head, options.encoding)
    return mark if compression_of(head) is None and encoding == "utf-8" else None


def _byte_ranges(filesystem: Any, name: str, first: int, part_bytes: int) -> Iterator[tuple[int, int, int | None]]:
    """From where the rows begin to the end of the file."""
    size = filesystem.size(name)
    with filesystem.open(name, "rb") as file:
        file.seek(first)
        # Where values are quoted a line may end within one, which only all that stands before can tell.
        quoted = b'"' in file.read(min(part_bytes, BLOCK_BYTES))
        while size - first > part_bytes:
            quotes = 0
            file.seek(first if quoted else first + part_bytes)
            while quoted and (left := first + part_bytes - file.tell()) > 0:
                quotes += file.read(min(left, BLOCK_BYTES)).count(b'"')
            # up to the end of the row that the place is in
            while line := file.readline():
                quotes += line.count(b'"')
                if not quoted or quotes % 2 == 0:
                    break
            yield first, file.tell(), None
            first = file.tell()
    yield first, size, None


def read(
    source: Source, options: ReadOptions, table: Table, part: Part, *, batch_rows: int, csv_row_bytes: int
) -> Iterator[Batch]:
    """The rows of a part in batches of about `batch_rows`, one at least, which may be empty.

    Raises:
        FilesError: the file is damaged, or not as `options` say.
    """
    filesystem, _ = open_filesystem(source.url)
    try:
        if source.format == "parquet":
            yield from _read_parquet(filesystem, part, batch_rows)
        elif source.format == "csv":
            yield from _read_csv(
                filesystem, part, table, options, batch_rows=batch_rows, size=batch_rows * csv_row_bytes
            )
        else:
            yield from _read_json(source, options, table, part, batch_rows)
    except (pa.ArrowException, OSError) as error:
        raise FilesError(f"{part.file}: {error}") from error


def _read_parquet(filesystem: Any, part: Part, batch_rows: int) -> Iterator[Batch]:
    with opened_parquet(filesystem, part.file) as parquet:
        if part.rows == 0:
            yield Batch(pa.RecordBatch.from_pylist([], schema=parquet.schema_arrow), None, int)
            return
        before = 1
        for batch in parquet.iter_batches(batch_rows, row_groups=range(part.first, part.last), use_threads=False):
            yield Batch(batch, None, before.__add__)
            before += batch.num_rows


def _read_json(source: Source, options: ReadOptions, table: Table, part: Part, batch_rows: int) -> Iterator[Batch]:
    of_part = Source(source.url, source.format, [{"path": part.file}])
    found = read_lines(of_part, options, lambda model: None if model else table)
    lines = list(islice(found, batch_rows))
    while True:
        errors = [line.error or _of_another(line.model) for line in lines]
        values = [line.values for line in lines]
        numbers = [line.number for line in lines]
        yield Batch(
            pa.record_batch({LINE: pa.array([line.text for line in lines], pa.string())}),
            errors,
            numbers.__getitem__,
            values,
        )
        if not (lines := list(islice(found, batch_rows))):
            return


def _of_another(model: str | None) -> str:
    return f"the row is for the model {model[:64]!a}" if model else ""


def layout_of(filesystem: Any, name: str, table: Table, options: ReadOptions) -> Layout:
    """How a file of CSV is laid out; raises FilesError as `look` does."""
    with opened(filesystem, name) as stream:
        found = look(blocks(stream, name, options.encoding), name, table, options)
    return replace(found, names=_unique(found.names))


def _unique(names: list[str]) -> list[str]:
    """Names of columns with numbers after those that are there twice: Parquet's readers need different ones."""
    taken = set(names)
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in seen:
            new = next(each for number in count(1) if (each := f"{name}.{number}") not in taken)
            names = [*names[:place], new, *names[place + 1 :]]
            taken.add(new)
        seen.add(name)
    return names


def _read_csv(
    filesystem: Any, part: Part, table: Table, options: ReadOptions, *, batch_rows: int, size: int
) -> Iterator[Batch]:
    layout = layout_of(filesystem, part.file, table, options)
    with opened(filesystem, part.file) as stream:
        is_whole = not part.first and part.last == filesystem.size(part.file)
        text = stream if is_whole else _Span(stream, part.first, part.last)
        # Only the part with the first rows knows the numbers of its lines.
        is_first = part.first <= layout.skipped + len(BOM_UTF8)
        name = part.file if is_first else f"{part.file} from byte {part.first}"
        before = layout.rows.line - 1 if part.first and is_first else 0
        content = blocks(text, name, options.encoding, size=size, line=1 + before)
        if not part.first:
            content = _without(content, layout.skipped)
        batches = _csv_batches(content, name, layout, batch_rows)
        first = next(batches, Batch(_strings([[] for _ in layout.names], layout.names), None, int))
        for batch in chain([first], batches):
            yield _counted_from(batch, before)


def _counted_from(batch: Batch, before: int) -> Batch:
    """With numbers of lines that begin at the part, not at the file."""
    return batch._replace(line_of=lambda row: batch.line_of(row) - before)


def _csv_batches(content: Iterator[Block], name: str, layout: Layout, batch_rows: int) -> Iterator[Batch]:
    for block in content:
        quoted = b'"' in block.content
        batch = None if quoted else _read_plain(block, layout)
        if batch is not None:
            yield batch
        else:
            # After a quote only the reader of rows knows where one ends.
            found = records(chain([block], content) if quoted else [block], name, layout.delimiter)
            yield from _read_records(found, layout.names, batch_rows)


def _without(content: Iterator[Block], skipped: int) -> Iterator[Block]:
    """The blocks after the first bytes, which are of whole lines."""
    for block in content:
        if skipped:
            before, after = block.content[:skipped], block.content[skipped:]
            skipped -= len(before)
            block = Block(block.line + count_lines(before), after)  # noqa: PLW2901
        if block.content:
            yield block


def _strings(columns: list[Any], names: list[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], names=names)


def _read_plain(block: Block, layout: Layout) -> Batch | None:
    """A block without quotes, in columns at once; `None` where a row has not a value for each column."""
    if not layout.delimiter.isascii():
        return None
    keys = [str(number) for number in range(len(layout.names))]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(block.content),
            pacsv.ReadOptions(use_threads=False, column_names=keys, block_size=len(block.content) + 1),
            pacsv.ParseOptions(delimiter=layout.delimiter, quote_char=False),
            # CSV has no types: what is not scored is kept as it is written, `007` as `007`.
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = [column.combine_chunks() for column in table.columns]

    def line_of(row: int) -> int:
        lines = io.StringIO(block.content.decode(), newline="")
        return next(islice((number for number, line in enumerate(lines, block.line) if line.strip("\r\n")), row, None))

    return Batch(pa.record_batch(columns, names=layout.names), None, line_of)


def _read_records(found: Iterator[Record], names: list[str], batch_rows: int) -> Iterator[Batch]:
    """Row by row."""
    width = len(names)
    while some := list(islice(found, batch_rows)):
        errors = [torn(record, width) or "" for record in some]
        rows = [
            [*record.fields[:width], *[None] * (width - len(record.fields))] if error else fit(record.fields, width)
            for record, error in zip(some, errors, strict=True)
        ]
        lines = [record.line for record in some]
        yield Batch(_strings(list(zip(*rows, strict=True)), names), errors if any(errors) else None, lines.__getitem__)


class _Span:
    """The bytes of a file from `first` up to `last`."""

    def __init__(self, file: Any, first: int, last: int) -> None:
        file.seek(first)
        self._read: Callable[[int], bytes] = file.read
        self._left = last - first

    def read(self, size: int) -> bytes:
        content = self._read(min(size, self._left))
        self._left -= len(content)
        return content
