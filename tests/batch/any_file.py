"""Files of rows as other programs write them, with what each row means."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from serving.batch.reading.options import ReadOptions
from serving.core.columns import Column
from serving.core.numbers import NUMBER
from serving.core.tensors import DTYPES

NUMBERS = ("0", "-0", "1", "7", "-3", "5.1", "0.2", "3.50", "1e2", "1E-3", "-2.5e+1", "12345.678", "9007199254740993")
WHOLE = ("0", "1", "7", "-3", "42", "5.0", "-2.00", "1e2", "9007199254740993", "123456789012345678")
MISSING = ("", " ", "NA", "NaN", "nan", "null", "None", "N/A")
DIRT = (
    *("x", "5_1", "+1", "0x1", ".5", "5.", "007", "-", "inf", "-Infinity", "1e400", "1e39", "1 2", "5.1.2", "--1", "٥"),
    *(
        "1'000",
        "12%",
        "true",
        "1/2",
        "1.5",
        "-1",
        "99999999999999999999",
        "9223372036854775808",
        "1d5",
        "e5",
        "1e",
        "é",
    ),
)
NEARLY = ("+1", ".5", "5.", "007", "-00", "inf", "0x1", "-.5")
"""What libraries take for numbers."""
TEXTS = ("Bern", "Paris", "007", "", " a ", "nan", "5.1", "é", "😀", "a b", "Zürich")
QUOTED_TEXTS = ('say "hi"', "a\nb", "a,b;c\td|e", "a\r\nb")
BOOLEANS = ("true", "false", "True", "FALSE", "1", "0")


@dataclass
class AnyFile:
    """A file, the options that it needs, and the rows that it has.

    Attributes:
        bodies: of each row the JSON that `/predict` gets for it, a list of values; `None` where a row is torn.
        lines: the number of each row's line.
        refused: a file of this kind must not be read without the options.
    """

    path: Path
    options: ReadOptions
    bodies: list[str | None]
    lines: list[int]
    how: list[str] = field(default_factory=list)
    refused: bool = False


def meaning(text: str, dtype: str) -> str:
    """The JSON of a cell of text, told without the code under test; what is nothing else is a string."""
    if dtype == "string":
        return json.dumps(text)
    text = text.strip(" \t")
    if text.lower() in {"", "na", "n/a", "nan", "null", "none"}:
        return "null"
    if dtype == "bool":
        return {"true": "true", "1": "true", "false": "false", "0": "false"}.get(text.lower(), json.dumps(text))
    try:
        value = json.loads(text)
    except ValueError:
        return json.dumps(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and text[-1] not in "yN"
    return text if is_number else json.dumps(text)


def cell(chance: random.Random, dtype: str, dirt: float, wrong: tuple[str, ...]) -> str:
    kind = DTYPES[dtype].numpy.kind
    if dtype == "string":
        return chance.choice(TEXTS + QUOTED_TEXTS)
    if chance.random() < dirt:
        return chance.choice(wrong)
    found = chance.choice(BOOLEANS if kind == "b" else WHOLE if kind in "iu" else NUMBERS)
    return f" {found}\t" if chance.random() < 0.05 else found


def header(chance: random.Random, name: str) -> str:
    """A name as somebody else writes it."""
    forms: list[Callable[[str], str]] = [
        str, str.upper, str.title, lambda text: f" {text} ", lambda text: text.replace(" ", "_"),
        lambda text: text.replace(" ", "."), lambda text: text.replace("_", " "), lambda text: text.partition(" (")[0],
        lambda text: f"{text} (mm)" if "(" not in text else text.replace("(", "[").replace(")", "]"),
    ]  # fmt: skip
    return chance.choice(forms)(name)


def rows_of(chance: random.Random, columns: list[Column]) -> list[list[str]]:
    dirt = chance.choice((0, 0, 0.05, 0.3))
    wrong = chance.choice((MISSING + DIRT, NEARLY))
    return [[cell(chance, column.dtype, dirt, wrong) for column in columns] for _ in range(chance.randint(1, 12))]


def any_file(chance: random.Random, directory: Path, columns: list[Column]) -> AnyFile:
    by_pandas = pandas_file if find_spec("pandas") else arrow_file
    make = chance.choice((csv_file, csv_file, csv_file, by_pandas, arrow_file, parquet_file, parquet_file, json_file))
    return make(chance, directory, columns)


@dataclass
class Dialect:
    """How a file of CSV is written."""

    delimiter: str
    decimal: str
    end: str
    encoding: str
    quoting: Any
    named: bool
    extras: int
    declared: bool
    suffix: str

    @classmethod
    def any(cls, chance: random.Random, columns: list[Column]) -> Dialect:
        named = chance.random() < 0.8 or all(column.dtype == "string" for column in columns)
        delimiter = chance.choice((",", ",", ";", "\t", "|"))
        end = chance.choice(("\n", "\r\n", "\r"))
        # The csv module quotes line breaks only where they are its own line ends.
        quoting = csv.QUOTE_ALL if end == "\r" else chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        return cls(
            delimiter,
            decimal="," if delimiter != "," and chance.random() < 0.5 else ".",
            end=end,
            encoding=chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")),
            quoting=quoting,
            named=named,
            extras=chance.choice((0, 0, 1, 2)) if named else 0,
            declared=chance.random() < 0.1,
            suffix="tsv" if delimiter == "\t" and chance.random() < 0.5 else "csv",
        )

    def needed(self, chance: random.Random, first: list[str], columns: list[Column]) -> dict[str, Any]:
        """The options without which the file cannot be read, and some that it could do without."""
        options: dict[str, Any] = {}
        if self.delimiter != "," and not self.declared and self.suffix == "csv":
            options["delimiter"] = self.delimiter
        if self.decimal == ",":
            options["decimal"] = ","
        if self.encoding == "cp1252":
            options["encoding"] = "cp1252"
        if not self.named and (chance.random() < 0.3 or not _is_plain(first, columns)):
            options["no_header"] = True
        return options


def csv_file(chance: random.Random, directory: Path, columns: list[Column]) -> AnyFile:
    """By the csv module, in any dialect."""
    rows = rows_of(chance, columns)
    dialect = Dialect.any(chance, columns)
    order = chance.sample(range(len(columns)), len(columns)) if dialect.named else list(range(len(columns)))
    found = AnyFile(directory / f"rows.{dialect.suffix}", ReadOptions(), [], [])
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=dialect.delimiter, lineterminator=dialect.end, quoting=dialect.quoting)
    if dialect.declared:
        out.write(f"sep={dialect.delimiter}{dialect.end}")
    if dialect.named:
        writer.writerow([header(chance, columns[place].name) for place in order] + ["note"] * dialect.extras)
    for number, row in enumerate(rows):
        if chance.random() < 0.1 and (number or dialect.named):
            out.write(dialect.end)
        text = out.getvalue()
        found.lines.append(1 + text.count("\n") + text.count("\r") - text.count("\r\n"))
        written = [_written(row[place], columns[place].dtype, dialect.decimal) for place in order]
        written += [chance.choice(TEXTS) for _ in range(dialect.extras)]
        if number and len(columns) > 1 and chance.random() < 0.05:
            writer.writerow([*written, "9"] if chance.random() < 0.5 else written[:1])
            found.bodies.append(None)
        else:
            writer.writerow([*written, ""] if chance.random() < 0.05 else written)
            found.bodies.append(body(row, columns))
    text = out.getvalue()
    if dialect.encoding == "cp1252" and text.encode("cp1252", "replace").decode("cp1252") != text:
        dialect.encoding = "utf-8"
    write(chance, found, text.encode(dialect.encoding))
    found.how.append(str(dialect))
    needed = dialect.needed(chance, rows[0], columns)
    if chance.random() < 0.2:
        # Forgotten options are told at once, and no row is scored.
        if "encoding" in needed and not text.isascii():
            del needed["encoding"]
            found.refused = True
        elif "delimiter" in needed and dialect.named:
            del needed["delimiter"]
            found.refused = True
    found.options = ReadOptions.parse(**needed)
    return found


def _written(text: str, dtype: str, decimal: str) -> str:
    return text.translate(str.maketrans(".,", ",.")) if decimal == "," and dtype != "string" else text


def _is_plain(row: list[str], columns: list[Column]) -> bool:
    """Whether nobody takes it for a header."""
    texts = [text.strip() for text, column in zip(row, columns, strict=True) if column.dtype != "string"]
    letters = any(letter.isalpha() for text in texts if not re.fullmatch(NUMBER, text) for letter in text)
    return any(texts) and not letters and row[-1].strip() != "" and texts[0] != "0"


def _tokens(text: str) -> list[str]:
    """The elements of a list of JSON as they are written."""
    found: list[str] = json.loads(text, parse_float=lambda token: f"\0{token}", parse_int=lambda token: f"\0{token}")
    return [each[1:] if isinstance(each, str) and each.startswith("\0") else json.dumps(each) for each in found]


def body(row: list[str], columns: list[Column]) -> str:
    return "[" + ",".join(meaning(text, column.dtype) for text, column in zip(row, columns, strict=True)) + "]"


def write(chance: random.Random, found: AnyFile, content: bytes) -> None:
    """Compressed at times."""
    suffix, pack = chance.choice(
        ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", _zstd), *[("", bytes)] * 12)
    )
    found.path = found.path.with_name(found.path.name + suffix)
    found.path.write_bytes(pack(content))


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def typed(chance: random.Random, columns: list[Column]) -> tuple[dict[str, list[Any]], list[str | None]]:
    """Columns of Python values, some missing, and the bodies of the rows."""
    number = chance.randint(1, 12)
    gaps = chance.choice((0, 0, 0.1))
    made: dict[str, list[Any]] = {}
    for column in columns:
        kind = DTYPES[column.dtype].numpy.kind
        values: list[Any] = []
        for _ in range(number):
            if chance.random() < gaps:
                values.append(None)
            elif column.dtype == "string":
                values.append(chance.choice(TEXTS + QUOTED_TEXTS))
            elif kind == "b":
                values.append(chance.random() < 0.5)
            elif kind in "iu":
                values.append(chance.choice((0, 1, -3, 42, 2**53 + 1)))
            else:
                values.append(chance.choice((0.5, -2.25, 3.0, 1e-3, 5.1, 1e300, -0.0)))
        made[column.name] = values
    bodies = [json.dumps([made[column.name][row] for column in columns]) for row in range(number)]
    return made, list(bodies)


def pandas_file(chance: random.Random, directory: Path, columns: list[Column]) -> AnyFile:
    """By pandas: its index, its missing values, whole numbers as floats and booleans as words."""
    import pandas as pd

    made, bodies = typed(chance, columns)
    frame = pd.DataFrame({name: made[name] for name in chance.sample(list(made), len(made))})
    for column in columns:
        values = frame[column.name]
        if DTYPES[column.dtype].numpy.kind in "iu" and values.isna().any() and chance.random() < 0.5:
            frame[column.name] = values.astype("Int64")  # else it is float64, and a large number is another one
        elif DTYPES[column.dtype].numpy.kind in "iu" and values.isna().any():
            bodies = _rounded(bodies, columns.index(column))
    found = AnyFile(directory / "rows.csv", ReadOptions(), bodies, [])
    options: dict[str, Any] = {"index": chance.random() < 0.5, "na_rep": chance.choice(("", "NA", "NULL"))}
    if any(column.dtype == "string" for column in columns):
        # pandas writes an empty text and a missing one alike
        frame = frame.fillna({column.name: "" for column in columns if column.dtype == "string"})
        found.bodies = _filled(found.bodies, [columns.index(each) for each in columns if each.dtype == "string"])
    content = frame.to_csv(**options).encode()
    write(chance, found, content)
    found.how.append(f"pandas {options}")
    return found


def _rounded(bodies: list[str | None], place: int) -> list[str | None]:
    return _mapped(bodies, {place}, lambda value: None if value is None else float(value))


def _filled(bodies: list[str | None], places: list[int]) -> list[str | None]:
    return _mapped(bodies, set(places), lambda value: "" if value is None else value)


def _mapped(bodies: list[str | None], places: set[int], change: Callable[[Any], Any]) -> list[str | None]:
    lists = [json.loads(each or "[]") for each in bodies]
    return [json.dumps([change(v) if p in places else v for p, v in enumerate(each)]) for each in lists]


def arrow_file(chance: random.Random, directory: Path, columns: list[Column]) -> AnyFile:
    """By Arrow's writer of CSV, which quotes text."""
    made, bodies = typed(chance, columns)
    strings = [place for place, column in enumerate(columns) if column.dtype == "string"]
    for place in strings:
        made[columns[place].name] = [value or "" for value in made[columns[place].name]]
    found = AnyFile(directory / "rows.csv", ReadOptions(), _filled(bodies, strings) if strings else bodies, [])
    sink = io.BytesIO()
    options = pyarrow.csv.WriteOptions(quoting_style=chance.choice(("needed", "all_valid")))
    names = chance.sample(list(made), len(made))
    pyarrow.csv.write_csv(pa.table({name: _array(chance, made[name], None) for name in names}), sink, options)
    write(chance, found, sink.getvalue())
    found.how.append("arrow csv")
    return found


def _array(chance: random.Random, values: list[Any], kinds: list[str] | None) -> pa.Array:
    first = next((value for value in values if value is not None), None)
    array = pa.array(values)
    if kinds is None or first is None or isinstance(first, bool):
        return array
    kind = chance.choice(kinds)
    if kind == "dictionary":
        return array.dictionary_encode()
    if kind == "decimal":
        digits = [None if value is None else Decimal(repr(value)) for value in values]
        small = all(each is None or abs(each) < 1000 for each in digits)
        return pa.array(digits, pa.decimal128(20, 6)) if small else array
    if kind == "text":
        return pa.array([None if value is None else repr(value) for value in values])
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        return array


def parquet_file(chance: random.Random, directory: Path, columns: list[Column]) -> AnyFile:
    """With types of many kinds."""
    made, bodies = typed(chance, columns)
    arrays: dict[str, pa.Array] = {}
    found = AnyFile(directory / "rows.parquet", ReadOptions(), bodies, [])
    for name in chance.sample(list(made), len(made)):
        column = next(each for each in columns if each.name == name)
        kind = DTYPES[column.dtype].numpy.kind
        kinds = {
            "O": ["string", "large_string", "string_view", "dictionary"],
            "f": ["float64", "decimal", "text", "dictionary", "float64"],
            "i": ["int64", "int8", "float64", "text", "dictionary", "decimal"],
        }.get(kind)
        arrays[header(chance, name)] = _array(chance, made[name], kinds)
    if chance.random() < 0.5:
        arrays["deep"] = pa.array([{"a": [1]}] * len(bodies))
    found.lines = list(range(1, len(bodies) + 1))
    table = pa.table(arrays)
    found.how.append(f"parquet {[str(kind) for kind in table.schema.types]}")
    pq.write_table(table, found.path, row_group_size=chance.choice((1, 3, 100)))
    return found


def json_file(chance: random.Random, directory: Path, columns: list[Column]) -> AnyFile:
    """JSON lines of lists or of objects."""
    rows = rows_of(chance, columns)
    found = AnyFile(directory / f"rows.{chance.choice(('jsonl', 'ndjson', 'json'))}", ReadOptions(), [], [])
    end = chance.choice(("\n", "\r\n"))
    text = chance.choice(("", "\ufeff"))
    named = chance.random() < 0.5
    for row in rows:
        if chance.random() < 0.1:
            text += end
        line = body(row, columns)
        found.lines.append(1 + text.count("\n"))
        found.bodies.append(line)
        if named:
            pairs = [
                f"{json.dumps(header(chance, column.name))}:{token}"
                for column, token in zip(columns, _tokens(line), strict=True)
            ]
            line = "{" + ",".join(chance.sample([*pairs, '"note":"x"'], len(pairs) + 1)) + "}"
        text += line + end
    write(chance, found, text.encode())
    found.how.append(f"json lines named={named}")
    return found
