"""The rows of files as JSON, each with the number of its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from serving.batch.reading import FilesError
from serving.batch.reading.columns import find_columns
from serving.batch.reading.judge import Table, read_cells
from serving.batch.reading.layout import check_file, fit, look, torn
from serving.batch.reading.options import ReadOptions
from serving.batch.reading.sources import Source, open_filesystem
from serving.batch.reading.text import blocks, opened, records
from serving.core.columns import Column

_BATCH_ROWS = 10_000
_SHOWN = 1000
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw]).decode
_decode_name = msgspec.json.Decoder(str | None).decode
TableOf = Callable[[str | None], Table | None]


class Line(NamedTuple):
    """A row of a file. `number` counts lines from 1, in Parquet rows. `error` says why the row is refused."""

    file: str
    number: int
    model: str | None
    values: str
    """JSON; what the file has where there is an error."""
    error: str | None = None
    text: str = ""
    """Of JSON lines, as it is."""


def read_lines(source: Source, options: ReadOptions, table: TableOf = lambda _model: None) -> Iterator[Line]:
    """The rows of files.

    Of a row with columns these are the values, the first that there are of: those of `options.columns`, those of the
    model's columns by their names, the JSON in the column `values`. A column `model` names the model of a row.

    Args:
        table: the columns of a model by its name, `None` for lines that name no model; it gives `None` where the model
            is not known or not one of rows. Rows of such models are numbers.

    Raises:
        FilesError: a file is damaged, or not as `options` say.
        OSError: it cannot be read.
    """
    filesystem, _ = open_filesystem(source.url)
    for file in source.files:
        name = file["path"]
        check_file(filesystem, name, source.format, options)
        reader = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}[source.format]
        yield from reader(filesystem, name, options, table)


class _Rows:
    """The rows of one file, in whose columns those of several models may stand."""

    def __init__(
        self, file: str, names: Sequence[str], options: ReadOptions, table: TableOf, *, named: bool = True
    ) -> None:
        self._file = file
        self._names = names
        self._options = options
        self._table = table
        self._named = named
        self._model = names.index("model") if "model" in names and not _has_model(table(None)) else None
        self._places: dict[str | None, tuple[list[int] | None, Table]] = {}

    def places(self, model: str | None) -> tuple[list[int] | None, Table]:
        """Where the values of rows of `model` stand, `None` for JSON in the column `values`, and what they are."""
        if model not in self._places:
            table = self._table(model)
            self._places[model] = self._find(model, table)
        return self._places[model]

    def _find(self, model: str | None, table: Table | None) -> tuple[list[int] | None, Table]:
        if self._options.columns and table is None:
            table = Table([Column(name, "float64", "") for name in self._options.columns], False)
        if table is None:
            names = [name for name in self._names if name != "model"]
            table = Table([Column(name, "float64", "") for name in names], False)
            places = None if "values" in names else [self._names.index(name) for name in names]
            return places, table
        if not self._named and not self._options.columns:
            return list(range(len(table.columns))), table
        try:
            return find_columns(self._names, table, self._options.columns), table
        except FilesError as error:
            if "values" in self._names and not self._options.columns:
                return None, table
            of = f"the model {model}: " if model else ""
            raise FilesError(f"{self._file}: {of}{error}") from error

    def line(self, number: int, row: Sequence[Any]) -> Line:
        named = None if self._model is None else row[self._model]
        model = named if isinstance(named, str) and named else None
        places, table = self.places(model)
        if places is None:
            return self._json(number, model, row[self._names.index("values")])
        names = [self._names[place] for place in places]
        cells = [row[place] for place in places]
        try:
            values = read_cells(cells, table, names, swaps=self._options.swaps)
        except ValueError as error:
            return Line(self._file, number, model, ",".join(map(str, row))[:_SHOWN], str(error))
        return Line(self._file, number, model, _encode(values).decode())

    def _json(self, number: int, model: str | None, values: Any) -> Line:
        """The column `values`: JSON as text, or what Parquet has for it."""
        if isinstance(values, str):
            return Line(self._file, number, model, values)
        if isinstance(values, dict):
            # Parquet has the same fields in every row, and what a row does not have is null.
            values = {key: value for key, value in values.items() if value is not None}
        try:
            return Line(self._file, number, model, _encode(values).decode())
        except (TypeError, ValueError):
            return Line(self._file, number, model, repr(values)[:_SHOWN], "values: neither JSON nor numbers")


def _has_model(table: Table | None) -> bool:
    """Whether `model` is a column of the model itself."""
    return table is not None and any(column.name == "model" for column in table.columns)


def _csv(filesystem: Any, name: str, options: ReadOptions, table: TableOf) -> Iterator[Line]:
    with opened(filesystem, name) as stream:
        content = blocks(stream, name, options.encoding)
        layout = look(content, name, table(None), options)
        rows = _Rows(name, layout.names, options, table, named=layout.named)
        for record in records(chain([layout.rows], content), name, layout.delimiter):
            if error := torn(record, len(layout.names)):
                yield Line(name, record.line, None, ",".join(record.fields)[:_SHOWN], error)
            else:
                yield rows.line(record.line, fit(record.fields, len(layout.names)))


def _parquet(filesystem: Any, name: str, options: ReadOptions, table: TableOf) -> Iterator[Line]:
    try:
        from serving.batch.reading.parquet import check_types, opened_parquet
    except ImportError as error:
        raise FilesError("Parquet needs pyarrow: pip install 'model-serving[files]'") from error
    with opened_parquet(filesystem, name) as parquet:
        schema = parquet.schema_arrow
        places, known = _Rows(name, schema.names, options, table).places(None)
        if "model" in schema.names:
            wanted = schema.names
        elif places is None:
            wanted = ["values"]
        else:
            check_types(schema, places, known, name)
            wanted = [schema.names[place] for place in places]
        rows = _Rows(name, wanted, options, table)
        number = 0
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=wanted):
            for row in zip(*(batch.column(name).to_pylist() for name in wanted), strict=True):
                number += 1
                yield rows.line(number, row)


def _json_lines(filesystem: Any, name: str, options: ReadOptions, table: TableOf) -> Iterator[Line]:
    with opened(filesystem, name) as stream:
        first = True
        for block in blocks(stream, name, options.encoding):
            for number, text in enumerate(re.split(rb"\r\n|\n|\r", block.content), block.line):
                if not (stripped := text.strip(b" \t")):
                    continue
                if first and re.match(rb"\[\s*(\[|\{|$)|\{$", stripped):
                    raise FilesError(
                        f"{name} is one JSON document; a line has to be one row: "
                        "write JSON lines, as jq -c '.[]' and DataFrame.to_json(orient='records', lines=True) do"
                    )
                first = False
                yield _json_line(name, number, stripped, options, table)


def _json_line(file: str, number: int, text: bytes, options: ReadOptions, table: TableOf) -> Line:
    """A list of values, `{"model": …, "values": …}`, or an object by the names of columns."""
    try:
        item = _decode(text)
        if isinstance(item, list):
            return Line(file, number, None, text.decode(), None, text.decode())
        model = _decode_name(item["model"]) if "model" in item and not _has_model(table(None)) else None
        if "values" in item:
            if unknown := item.keys() - {"model", "values"}:
                raise msgspec.ValidationError(f"there is {min(unknown)!a} beside values")
            return Line(file, number, model, bytes(item["values"]).decode(), None, text.decode())
        found = table(model)
        if found is None:
            raise msgspec.ValidationError("the line has no values")
        names = list(item)
        places = find_columns(names, found, options.columns)
        values = [item[names[place]] for place in places]
        return Line(file, number, model, _encode(values).decode(), None, text.decode())
    except (msgspec.DecodeError, RecursionError, FilesError) as error:
        return Line(file, number, None, text[:_SHOWN].decode(errors="replace"), str(error), text.decode())
