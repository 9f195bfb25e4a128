"""Rows from CSV, JSON lines and Parquet, one after the other, with the number of the line that each comes from."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from serving.core.errors import ConfigurationError

FileFormat = Literal["csv", "jsonl", "parquet"]
_FORMATS: dict[str, FileFormat] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
MOST_BYTES = 1_048_576
"""Of a line; a longer one is rejected, so that a file without line breaks does not fill the memory."""
_BATCH_ROWS = 10_000
_encode = msgspec.json.encode


class Line(NamedTuple):
    """A row of a file. `number` counts lines, in Parquet rows, from 1. `error` says why there are no `values`."""

    number: int
    model: str | None
    values: str
    """JSON."""
    error: str | None = None


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    values: msgspec.Raw
    model: str | None = None


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_values = msgspec.json.Decoder(msgspec.Raw).decode


def format_of(file: Path) -> FileFormat:
    """By the end of its name. Raises ConfigurationError when that says nothing."""
    try:
        return _FORMATS[file.suffix.lower()]
    except KeyError:
        raise ConfigurationError(f"{file}: give --format; the name does not end in {', '.join(_FORMATS)}") from None


def read_lines(file: Path, form: FileFormat, *, columns: Sequence[str] | None = None) -> Iterator[Line]:
    """The rows of `file`.

    Of CSV and Parquet the row is the numbers in `columns`; unless given those of all columns but `model`, in order, or
    the JSON in the column `values` where there is one.

    Raises:
        ConfigurationError: columns are missing, or it is no Parquet file, or pyarrow is not installed.
        OSError: it cannot be read.
    """
    if form == "parquet":
        yield from _parquet(file, columns)
    elif form == "csv":
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            yield from _csv(text, columns)
    else:
        with file.open("rb") as content:
            yield from _json_lines(content)


def _json_lines(content: IO[bytes]) -> Iterator[Line]:
    number = 0
    while line := content.readline(MOST_BYTES):
        number += 1
        if len(line) == MOST_BYTES and not line.endswith(b"\n"):
            while (more := content.readline(MOST_BYTES)) and not more.endswith(b"\n"):
                pass
            yield Line(number, None, "", f"the line is longer than {MOST_BYTES} bytes")
        elif stripped := line.strip():
            yield _json_line(number, stripped)


def _json_line(number: int, line: bytes) -> Line:
    """`{"model": …, "values": …}`, or the values alone when they are a list."""
    try:
        if line.startswith(b"["):
            return Line(number, None, bytes(_decode_values(line)).decode())
        item = _decode_item(line)
        return Line(number, item.model, bytes(item.values).decode())
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return Line(number, None, line.decode(errors="replace"), str(error))


def _csv(text: IO[str], columns: Sequence[str] | None) -> Iterator[Line]:
    reader = csv.reader(text)
    wanted: _Columns | None = None
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Line(reader.line_num, None, "", str(error))
            continue
        if fields is None:
            return
        if not fields:
            continue
        if wanted is None:
            if columns is None and all(map(_is_number, fields)):
                wanted = _Columns([str(index) for index in range(len(fields))], None)
            else:
                wanted = _Columns([name.strip() for name in fields], columns)
                continue
        yield wanted.line(reader.line_num, fields)


class _Columns:
    """Where in a line of CSV things stand."""

    def __init__(self, header: list[str], columns: Sequence[str] | None) -> None:
        self._width = len(header)
        self._model = header.index("model") if "model" in header else None
        self._json = header.index("values") if columns is None and "values" in header else None
        missing = [name for name in columns or () if name not in header]
        if missing:
            raise ConfigurationError(f"there is no column {missing[0]}; the file has {', '.join(header)}")
        names = [name for name in header if name != "model"] if columns is None else columns
        self._numbers = [header.index(name) for name in names]

    def line(self, number: int, fields: list[str]) -> Line:
        text = ",".join(fields).encode(errors="replace").decode()
        if len(fields) != self._width:
            return Line(number, None, text, f"{len(fields)} fields instead of {self._width}")
        model = (fields[self._model] or None) if self._model is not None else None
        if self._json is not None:
            return Line(number, model, fields[self._json].encode(errors="replace").decode())
        try:
            values = [float(fields[index]) for index in self._numbers]
        except ValueError:
            wrong = next(fields[index] for index in self._numbers if not _is_number(fields[index]))
            return Line(number, model, text, f"not a number: {wrong[:40]!a}")
        return _numbers(number, model, values)


def _numbers(number: int, model: str | None, values: Sequence[float | None]) -> Line:
    if not all(value is not None and math.isfinite(value) for value in values):
        shown = ",".join(str(value) for value in values)
        return Line(number, model, shown, "a value is missing, or is not finite")
    return Line(number, model, _encode(values).decode())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(file: Path, columns: Sequence[str] | None) -> Iterator[Line]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'model-serving[files]'") from error
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            of_all = ["values"] if "values" in names else [name for name in names if name != "model"]
            wanted = list(columns or of_all)
            missing = [name for name in wanted if name not in names]
            if missing:
                raise ConfigurationError(f"there is no column {missing[0]}; the file has {', '.join(names)}")
            number = 0
            read = [*wanted, *(["model"] if "model" in names else [])]
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=read):
                for row in batch.to_pylist():
                    number += 1
                    yield _parquet_line(number, row, wanted, whole=columns is None and wanted == ["values"])
    except pa.ArrowInvalid as error:
        raise ConfigurationError(f"{file} is not a Parquet file that can be read: {error}") from error


def _parquet_line(number: int, row: dict[str, object], wanted: list[str], *, whole: bool) -> Line:
    model = row.get("model")
    name = model if isinstance(model, str) else None
    values = row["values"] if whole else [row[column] for column in wanted]
    if whole and isinstance(values, str):
        return Line(number, name, values)
    if isinstance(values, list) and all(value is None or type(value) in (int, float) for value in values):
        return _numbers(number, name, values)
    if isinstance(values, dict):
        # Parquet has the same fields in every row, and what a row does not have is null.
        return Line(number, name, _encode({key: value for key, value in values.items() if value is not None}).decode())
    return Line(number, name, repr(values)[:1000], "neither numbers nor JSON")
