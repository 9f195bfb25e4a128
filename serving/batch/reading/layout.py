"""How a file is laid out, told by its beginning and by what the caller says of it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from serving.batch.reading import FilesError
from serving.batch.reading.columns import find_columns, is_row
from serving.batch.reading.judge import Table
from serving.batch.reading.kinds import Format, refusal, suffix_of
from serving.batch.reading.options import DELIMITERS, ReadOptions
from serving.batch.reading.text import Block, Record, opened, records
from serving.core.numbers import NUMBER
from serving.core.tensors import STRING

_SAMPLE_ROWS = 100
_SAMPLE_BYTES = 65_536
_HEAD_BYTES = 512
_is_comma_number = re.compile(NUMBER.replace(r"\.", ",")).fullmatch


@dataclass(frozen=True, slots=True)
class Layout:
    """What the beginning of a file of CSV says.

    Attributes:
        delimiter: between values.
        names: of the columns; numbers from 1 where no line names them.
        named: whether a line names them.
        places: of the model's columns; `None` where the model is not known, or the values are JSON.
        rows: what is left of the block that the rows begin in.
        skipped: bytes before it, as UTF-8 and without a byte order mark.
    """

    delimiter: str
    names: list[str]
    named: bool
    places: list[int] | None
    rows: Block
    skipped: int


def check_file(filesystem: Any, name: str, form: Format, options: ReadOptions) -> None:
    """Raises FilesError when a file is something else by its first bytes, or an option is not for it."""
    given = {
        "delimiter": options.delimiter,
        "decimal": options.decimal,
        "no-header": options.header is False or None,
        "encoding": options.encoding if form == "parquet" else None,
    }
    wrong = [f"--{option}" for option, value in given.items() if value is not None]
    if form != "csv" and wrong:
        raise FilesError(f"{name} is {form}, for which there is no {' and no '.join(wrong)}")
    if form != "parquet":
        with opened(filesystem, name) as stream:
            refused = refusal(name, stream.read(_HEAD_BYTES) or b" ")
        if refused:
            raise FilesError(refused)


def look(content: Iterator[Block], name: str, table: Table | None, options: ReadOptions) -> Layout:
    """The layout of a file of CSV.

    Args:
        content: the file from its beginning; the first blocks are taken.
        table: of the model whose rows these are, where it is known.

    Raises:
        FilesError: the file is not laid out as it is said to be, or its first line names other columns.
    """
    block = Block(1, b"")
    while len(block.content) < _SAMPLE_BYTES and (more := next(content, None)):
        block = Block(1, block.content + more.content)
    declared = re.match('"?sep=([^"\r\n])"?(?:\r\n|\n|\r)', block.content[:20].decode(errors="ignore"), re.IGNORECASE)
    skipped = len(declared[0].encode()) if declared else 0  # Excel's word to itself
    delimiter = options.delimiter or (declared[1] if declared else "\t" if suffix_of(name) == ".tsv" else ",")
    try:
        fields, taken = _first_record(block.content[skipped:], delimiter)
        names, places, row = _names([field.strip(" \t") for field in fields], table, options)
    except FilesError as error:
        hint = "" if options.delimiter or table is None else _hint(block.content[skipped:], table, options, delimiter)
        raise FilesError(f"{name}: {hint or error}") from error
    if not row:
        skipped += taken
    before, after = block.content[:skipped], block.content[skipped:]
    rows = Block(block.line + len(_lines(before)), after)
    if places is not None and table is not None:
        numbers = [place for place, column in zip(places, table.columns, strict=True) if column.dtype != STRING]
        _check_decimal(rows, name, delimiter, numbers, options)
    return Layout(delimiter, names, not row, places, rows, skipped)


def _lines(content: bytes) -> list[str]:
    return list(io.StringIO(content.decode(), newline=""))


def _first_record(content: bytes, delimiter: str) -> tuple[list[str], int]:
    """The first row that is not empty, and how many bytes it and the empty lines before it take."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(content.decode(), newline=""):
            taken.append(line)
            yield line

    try:
        fields = next(filter(None, csv.reader(lines(), delimiter=delimiter, strict=True)), None)
    except csv.Error as error:
        raise FilesError(f"the first line is not CSV: {error}") from error
    if fields is None:
        raise FilesError("the file is empty; its first line has to name the columns")
    return fields, len("".join(taken).encode())


def _names(fields: list[str], table: Table | None, options: ReadOptions) -> tuple[list[str], list[int] | None, bool]:
    """The names of the columns, the places of the model's, and whether the first line is a row."""
    names = _without_empty(fields, 1)
    if options.header:
        return names, None if table is None else find_columns(names, table, options.columns), False
    if options.header is None and table is not None:
        try:
            return names, find_columns(names, table), False
        except FilesError:
            if "values" in names:
                return names, None, False
            if not is_row(_without_empty(fields, len(table.columns)), table):
                raise
    if table is None:
        row = options.header is False or is_row(names, None)
        return _numbers(fields) if row else names, None, row
    if options.columns:
        numbers = _numbers(fields)
        return numbers, find_columns(numbers, table, options.columns), True
    fields = _without_empty(fields, len(table.columns))
    if len(fields) != len(table.columns):
        raise FilesError(
            f"the first line has {len(fields)} values, and the model takes {len(table.columns)}: "
            "say which by their numbers from 1, as with --no-header --columns 2,3"
        )
    return _numbers(fields), list(range(len(fields))), True


def _numbers(fields: Sequence[str]) -> list[str]:
    return [str(number) for number in range(1, len(fields) + 1)]


def _without_empty(fields: Sequence[str], least: int) -> list[str]:
    """Without the empty values that delimiters at the end of a line make."""
    end = len(fields)
    while end > least and not fields[end - 1]:
        end -= 1
    return list(fields[:end])


def fit(fields: list[str], width: int) -> list[str]:
    """The values of a row, without those that delimiters at its end make."""
    return fields if len(fields) == width else _without_empty(fields, width)


def torn(record: Record, width: int) -> str | None:
    """What is wrong with a row that has not a value for each column."""
    number = len(fit(record.fields, width))
    return record.error or (None if number == width else f"{number} values, and there are {width} columns")


def _hint(content: bytes, table: Table, options: ReadOptions, delimiter: str) -> str:
    """A sentence about the delimiter that makes sense of the file, where there is one."""
    lines = [line for line in _lines(content[:_SAMPLE_BYTES].rpartition(b"\n")[0] or content) if line.strip()][:2]
    for other, meaning in DELIMITERS.items():
        if other == delimiter or not lines:
            continue
        rows = list(csv.reader(lines, delimiter=other))
        try:
            _names([field.strip() for field in rows[0]], table, options)
        except FilesError:
            continue
        commas = other != "," and options.decimal is None and any(_is_comma_number(cell.strip()) for cell in rows[-1])
        what = f"{meaning} separate the values" + (" and numbers have decimal commas" if commas else "")
        advice = f"--delimiter {'tab' if other.isspace() else repr(other)}" + (" --decimal ','" if commas else "")
        return f"it looks as if {what}: give {advice}"
    return ""


def _check_decimal(rows: Block, name: str, delimiter: str, numbers: Sequence[int], options: ReadOptions) -> None:
    """Raises FilesError where the first numbers have decimal commas and should have points, or the other way round."""
    wrong, right = (".", ",") if options.swaps else (",", ".")
    found = ""
    for record in islice(records([rows], name, delimiter, whole=False), _SAMPLE_ROWS):
        for cell in (record.fields[place].strip() for place in numbers if place < len(record.fields)):
            if right in cell:
                return
            if not found and wrong in cell and _is_comma_number(cell.replace(wrong, ",")):
                found = cell
    if found:
        advice = "leave --decimal out" if options.swaps else "give --decimal ','"
        raise FilesError(f"{name}: it looks as if numbers have a decimal {'point' if options.swaps else 'comma'}, "
                         f"such as {found}: {advice}")  # fmt: skip
