"""What is given to a model on the command line: rows, tensors and image files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from serving.client import Description
    from serving.core.columns import Column


def read_json(text: str | bytes, what: str = "the rows") -> Any:
    """Raises UsageError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} are not JSON: {error}") from error


def from_json(value: Any) -> dict[str, Any]:
    """`rows` or `tensors` in JSON: a list of rows, or the body of `/predict`. The server judges what is in them."""
    if isinstance(value, dict) and isinstance(value.get("inputs"), dict):
        return {"tensors": value["inputs"]}
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise click.UsageError("the rows have to be a list of rows, such as [[5.1, 3.5, 1.4, 0.2]]")
    return {"rows": rows}


def read_tensors(text: str) -> dict[str, Any]:
    """`tensors` in JSON: an object of nested lists by the name of the input."""
    value = read_json(text, "the tensors")
    if not isinstance(value, dict):
        raise click.UsageError('the tensors have to be an object, such as {"user": [[1.0, 0.5]]}')
    return {"tensors": value}


def read_file(file: IO[bytes]) -> dict[str, Any]:
    """`rows` or `tensors` in a file of JSON."""
    return from_json(read_json(file.read()))


def is_csv(file: IO[bytes]) -> bool:
    """Whether the file is rows as CSV, by its name."""
    return str(getattr(file, "name", "")).lower().endswith(".csv")


def read_csv(file: IO[bytes], description: Description) -> list[Any]:
    """Rows by the names in the first line of a file of CSV.

    Raises:
        UsageError: a line has more or fewer values than the first one, or a value is not of its column's type.
    """
    try:
        lines = list(csv.reader(io.StringIO(file.read().decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.UsageError(f"{file.name}: the file is not CSV in UTF-8: {error}") from error
    if not lines:
        raise click.UsageError(f"{file.name}: the file is empty")
    columns = {column.name: column for column in _columns(description)}
    header, *rows = lines
    found = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        place = f"{file.name}, line {number}"
        if len(row) != len(header):
            raise click.UsageError(f"{place}: {len(row)} values, where the first line has {len(header)}")
        # The server refuses names that it does not know.
        found.append({name: _value(text, columns.get(name), place) for name, text in zip(header, row, strict=True)})
    return found


def read_lines(lines: Iterable[str], description: Description) -> list[Any]:
    """Rows of values between commas, in the order of the model's columns.

    Raises:
        UsageError: a value is not of its column's type.
    """
    columns: Sequence[Column | None] = _columns(description)
    found = []
    for line in lines:
        try:
            (values,) = csv.reader([line], skipinitialspace=True, strict=True)
        except (ValueError, csv.Error) as error:
            message = f"--row {line}: values between commas are required, such as 5.1,3.5,1.4,0.2"
            raise click.UsageError(message) from error
        # The server refuses a row with more or fewer values.
        known = [*columns, *[None] * (len(values) - len(columns))]
        found.append([_value(text, column, f"--row {line}") for text, column in zip(values, known, strict=False)])
    return found


def _columns(description: Description) -> list[Column]:
    from serving.core.columns import columns_of

    if description.kind != "rows":
        raise click.UsageError(f"the model {description.name} takes no rows but {description.kind}")
    return columns_of(description)


def _value(text: str, column: Column | None, place: str) -> Any:
    """A value of the type of its column, or else a number; an empty one is missing."""
    from serving.core.numbers import read_value

    name, dtype = ("a value", "float64") if column is None else (column.name, column.dtype)
    try:
        return read_value(text, dtype)
    except ValueError as error:
        raise click.UsageError(f"{place}: {name}: {error}") from error
