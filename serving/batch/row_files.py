"""Rows of CSV, JSON lines and Parquet files, each with the number of its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

from serving.batch.checks import Table
from serving.batch.column_names import match_columns
from serving.core.errors import ConfigurationError
from serving.core.tensors import DTYPES, STRING

FileFormat = Literal["csv", "jsonl", "parquet"]
_FORMATS: dict[str, FileFormat] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
MOST_BYTES = 1_048_576
"""Of a line. A longer one is rejected, so that a file without line breaks does not fill the memory."""
_BATCH_ROWS = 10_000
_encode = msgspec.json.encode
TableOf = Callable[[str | None], Table | None]


class Line(NamedTuple):
    """A row of a file. `number` counts lines from 1, in Parquet rows. `error` says why the row is refused."""

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
    """The format that the suffix of a file's name says. Raises ConfigurationError when it says none."""
    try:
        return _FORMATS[file.suffix.lower()]
    except KeyError:
        raise ConfigurationError(f"{file}: give --format; the name does not end in {', '.join(_FORMATS)}") from None


def read_lines(
    file: Path,
    form: FileFormat,
    *,
    columns: Sequence[str] | None = None,
    table: TableOf = lambda _model: None,
) -> Iterator[Line]:
    """The rows of `file`.

    Of CSV and Parquet a row is, in this order: the values in `columns`; the JSON in the column `values` where there is
    one; the values of the model's columns, found by name, where the file has all of them; the values of all columns
    but `model`, in order.

    Args:
        columns: names of the columns with the values, in the order of the model.
        table: the columns of a model by its name, `None` for lines that name no model; it gives `None` where the model
            is not known or not one of rows. Rows of such models are numbers.

    Raises:
        ConfigurationError: columns are missing, or it is no Parquet file, or pyarrow is not installed.
        OSError: it cannot be read.
    """
    if form == "parquet":
        yield from _parquet(file, columns, table)
    elif form == "csv":
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            yield from _csv(text, columns, table)
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
    """`{"model": …, "values": …}`, or the values alone where they are a list."""
    try:
        if line.startswith(b"["):
            return Line(number, None, bytes(_decode_values(line)).decode())
        item = _decode_item(line)
        return Line(number, item.model, bytes(item.values).decode())
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return Line(number, None, line.decode(errors="replace"), str(error))


def _csv(text: IO[str], columns: Sequence[str] | None, table: TableOf) -> Iterator[Line]:
    reader = csv.reader(text)
    header: _Header | None = None
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
        if header is None:
            if columns is None and all(map(_is_number, fields)):
                header = _Header([str(index) for index in range(len(fields))], None, table)
            else:
                header = _Header([name.strip() for name in fields], columns, table)
                continue
        yield _csv_line(reader.line_num, fields, header)


class _Selection(NamedTuple):
    """Where the values of a model's rows stand, and what they are."""

    indices: Sequence[int]
    table: Table | None

    def values(self, number: int, model: str | None, row: Sequence[Any]) -> Line:
        """Values from a file that has types, such as Parquet."""
        values = [row[index] for index in self.indices]
        if self.table is None:
            if all(value is None or type(value) in (int, float) for value in values):
                return _line(number, model, values, allow_nan=False)
            return Line(number, model, repr(values)[:1000], "neither numbers nor JSON")
        if all(value is None or type(value) in (int, float, str, bool) for value in values):
            return _line(number, model, values, allow_nan=self.table.allow_nan)
        return Line(number, model, repr(values)[:1000], "neither numbers nor text")

    def parsed(self, number: int, model: str | None, row: Sequence[str]) -> Line:
        """Values that are written as text, as in CSV."""
        texts = [row[index] for index in self.indices]
        dtypes = ["float64"] * len(texts) if self.table is None else [column.dtype for column in self.table.columns]
        if len(dtypes) != len(texts):
            return Line(number, model, ",".join(texts), f"{len(texts)} values; the model has {len(dtypes)} columns")
        allow_nan = self.table is not None and self.table.allow_nan
        try:
            values = [_parse(text, dtype, allow_nan) for text, dtype in zip(texts, dtypes, strict=True)]
        except ValueError as error:
            shown = ",".join(row).encode(errors="replace").decode()
            return Line(number, model, shown, str(error))
        return _line(number, model, values, allow_nan=allow_nan)


class _Header:
    """The columns of a file, in which rows of several models may stand."""

    def __init__(self, names: Sequence[str], columns: Sequence[str] | None, table: TableOf) -> None:
        self.width = len(names)
        self.model = names.index("model") if "model" in names else None
        self.json = names.index("values") if columns is None and "values" in names else None
        missing = [name for name in columns or () if name not in names]
        if missing:
            raise ConfigurationError(f"there is no column {missing[0]}; the file has {', '.join(names)}")
        self._names = list(names)
        self._columns = columns
        self._table = table
        self._selections: dict[str | None, _Selection] = {}

    def selection(self, model: str | None) -> _Selection:
        """Where the values of rows of `model` stand."""
        if model not in self._selections:
            table = self._table(model)
            self._selections[model] = _Selection(list(map(self._names.index, self._select(table))), table)
        return self._selections[model]

    def _select(self, table: Table | None) -> Sequence[str]:
        if self._columns is not None:
            return self._columns
        if table is not None:
            found = match_columns(self._names, [column.name for column in table.columns])
            if set(found) <= set(self._names):
                return found
        return [name for name in self._names if name != "model"]


def _csv_line(number: int, fields: list[str], header: _Header) -> Line:
    if len(fields) != header.width:
        text = ",".join(fields).encode(errors="replace").decode()
        return Line(number, None, text, f"{len(fields)} fields instead of {header.width}")
    model = (fields[header.model] or None) if header.model is not None else None
    if header.json is not None:
        return Line(number, model, fields[header.json].encode(errors="replace").decode())
    return header.selection(model).parsed(number, model, fields)


def _parse(text: str, dtype: str, allow_nan: bool) -> Any:
    """The value of a cell of CSV, for JSON; raises ValueError, which says what is wrong."""
    if dtype == STRING:
        if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"not UTF-8: {text[:40]!a}")
        return text
    if not text.strip() and allow_nan:
        return None
    known = DTYPES[dtype].numpy.kind
    if known == "b" and (value := _BOOLEANS.get(text.strip().lower())) is not None:
        return value
    try:
        if known in "iu" and -(2**63) <= (whole := int(text)) < 2**64:  # JSON of msgspec has no larger ones
            return whole
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"not a number: {text[:40]!a}") from None


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _line(number: int, model: str | None, values: Sequence[Any], *, allow_nan: bool) -> Line:
    """A row of values; a number that is missing is NaN where the model takes that."""
    if allow_nan:  # JSON has no NaN
        values = [None if value != value else value for value in values]  # noqa: PLR0124 - NaN
    missing = any(value is None for value in values) and not allow_nan
    if missing or any(isinstance(value, float) and not math.isfinite(value) for value in values):
        shown = ",".join(str(value) for value in values)
        return Line(number, model, shown, "a value is missing, or is not finite")
    return Line(number, model, _encode(values).decode())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(file: Path, columns: Sequence[str] | None, table: TableOf) -> Iterator[Line]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'model-serving[files]'") from error
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            header = _Header(names, columns, table)
            wanted = columns or (["values"] if "values" in names else None)
            if wanted is not None:  # the others need not be read
                names = [name for name in names if name in (*wanted, "model")]
                header = _Header(names, columns, table)
            number = 0
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=names):
                for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                    number += 1
                    yield _parquet_line(number, row, header)
    except pa.ArrowInvalid as error:
        raise ConfigurationError(f"{file} is not a Parquet file that can be read: {error}") from error


def _parquet_line(number: int, row: Sequence[Any], header: _Header) -> Line:
    named = None if header.model is None else row[header.model]
    model = named if isinstance(named, str) else None
    if header.json is None:
        return header.selection(model).values(number, model, row)
    values = row[header.json]
    if isinstance(values, str):
        return Line(number, model, values)
    if isinstance(values, list) and all(value is None or type(value) in (int, float) for value in values):
        return _line(number, model, values, allow_nan=False)
    if isinstance(values, dict):
        # Parquet has the same fields in every row, and what a row does not have is null.
        return Line(number, model, _encode({key: value for key, value in values.items() if value is not None}).decode())
    return Line(number, model, repr(values)[:1000], "neither numbers nor JSON")
