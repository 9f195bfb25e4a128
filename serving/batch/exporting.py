"""`serving batch export`: rows with their predictions into a file."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
from sqlalchemy import select

from serving.batch.database import Database
from serving.batch.reading.kinds import Format
from serving.batch.scope import Scope
from serving.batch.tables import Item, Status, json_text
from serving.core.errors import ConfigurationError

_PAGE_ROWS = 10_000
COLUMNS = (
    "id",
    "model",
    "values",
    "prediction",
    "label",
    "model_tag",
    "status",
    "attempts",
    "error",
    "created_at",
    "updated_at",
)
_FORMATS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_JSON = ("values", "prediction")
_decode = msgspec.json.Decoder(msgspec.Raw).decode


class _Writer(Protocol):
    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows as in COLUMNS; JSON is text, times have their zone."""


def format_of(file: Path) -> Format:
    """The format that the suffix of a file's name says. Raises ConfigurationError when it says none."""
    try:
        return _FORMATS[file.suffix.lower()]
    except KeyError:
        raise ConfigurationError(f"{file}: give --format; the name does not end in {', '.join(_FORMATS)}") from None


def export(
    database: Database,
    file: Path | None,
    form: Format,
    *,
    scope: Scope,
    status: Status | None,
    advance: Callable[[int], object] = lambda _: None,
) -> int:
    """Write the rows of `scope` in the order of their ids, page by page; how many.

    `file` is there when it is complete; `None` is standard output.

    Raises:
        ConfigurationError: Parquet on standard output, or pyarrow is not installed.
    """
    total = 0
    with _opened(file, form) as writer:
        for page in _pages(database, scope, status):
            writer.write(page)
            total += len(page)
            advance(len(page))
    return total


def _pages(database: Database, scope: Scope, status: Status | None) -> Iterator[Sequence[Sequence[Any]]]:
    columns = [
        json_text(getattr(Item, name), database.kind) if name in _JSON else getattr(Item, name) for name in COLUMNS
    ]
    conditions = scope.conditions() + ([] if status is None else [Item.status == status])
    after = 0
    while True:
        statement = select(*columns).where(*conditions, Item.id > after).order_by(Item.id).limit(_PAGE_ROWS)
        with database.read() as connection:
            page = connection.execute(statement).all()
        if not page:
            return
        yield page
        after = page[-1][0]


@contextmanager
def _opened(file: Path | None, form: Format) -> Iterator[_Writer]:
    if file is None:
        if form == "parquet":
            raise ConfigurationError("Parquet goes to a file, not to standard output")
        yield _writer(sys.stdout.buffer, form)
        sys.stdout.buffer.flush()
        return
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with new.open("xb") as output:
            writer = _writer(output, form)
            yield writer
            if isinstance(writer, _Parquet):
                writer.close()
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()


def _writer(output: IO[bytes], form: Format) -> _Writer:
    makers: dict[Format, Callable[[IO[bytes]], _Writer]] = {
        "csv": _Csv,
        "jsonl": _JsonLines,
        "parquet": _Parquet,
    }
    return makers[form](output)


class _JsonLines:
    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        encode = msgspec.json.encode
        for row in rows:
            fields = {name: _json(value) if name in _JSON else value for name, value in zip(COLUMNS, row, strict=True)}
            self._output.write(encode(fields) + b"\n")


def _json(text: str | None) -> msgspec.Raw | str | None:
    """Values that are not valid JSON (SQLite does not check, e.g. NaN) are exported as text."""
    if text is None:
        return None
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return text


class _Csv:
    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._write([COLUMNS])

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        self._write([[v.isoformat() if isinstance(v, datetime) else v for v in row] for row in rows])

    def _write(self, rows: Sequence[Sequence[Any]]) -> None:
        lines: list[str] = []
        csv.writer(_Appending(lines)).writerows(rows)
        self._output.write("".join(lines).encode())


class _Appending:
    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


class _Parquet:
    def __init__(self, output: IO[bytes]) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ConfigurationError("Parquet needs pyarrow: pip install 'model-serving[files]'") from error
        moment = pa.timestamp("us", "UTC")
        types = {"id": pa.int64(), "attempts": pa.int32(), "created_at": moment, "updated_at": moment}
        self._pa = pa
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        self._writer = pq.ParquetWriter(output, self._schema)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        by_column = zip(zip(*rows, strict=True), self._schema, strict=True)
        columns = [self._pa.array(column, field.type) for column, field in by_column]
        self._writer.write_batch(self._pa.record_batch(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
