"""Files into lines: what is read, what is rejected, and under which number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.batch import row_files
from serving.batch.checks import Table
from serving.batch.row_files import Line, format_of, read_lines
from serving.core.columns import Column
from serving.core.errors import ConfigurationError


def _read(tmp_path: Path, name: str, content: str | bytes, **options: Any) -> list[Line]:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_lines(file, format_of(file), **options))


def test_csv_with_a_header(tmp_path: Path) -> None:
    lines = _read(tmp_path, "a.csv", "sl,sw,model,pl,pw\n5.1,3.5,,1.4,0.2\n1,2,wine,3,4\n")
    assert lines == [Line(2, None, "[5.1,3.5,1.4,0.2]"), Line(3, "wine", "[1.0,2.0,3.0,4.0]")]


def test_csv_without_a_header(tmp_path: Path) -> None:
    assert _read(tmp_path, "a.csv", "5.1,3.5,1.4,0.2\r\n\r\n1,2,3,4") == [
        Line(1, None, "[5.1,3.5,1.4,0.2]"),
        Line(3, None, "[1.0,2.0,3.0,4.0]"),
    ]


def test_columns_are_chosen_by_name_in_order(tmp_path: Path) -> None:
    text = "id,b,a\n7,2,1\n"
    assert _read(tmp_path, "a.csv", text, columns=["a", "b"]) == [Line(2, None, "[1.0,2.0]")]
    with pytest.raises(ConfigurationError, match="no column c; the file has id, b, a"):
        _read(tmp_path, "a.csv", text, columns=["a", "c"])


def test_csv_with_json_values(tmp_path: Path) -> None:
    assert _read(tmp_path, "a.csv", 'model,values\niris,"[1,2,3,4]"\n') == [Line(2, "iris", "[1,2,3,4]")]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("1,2,3", "3 fields instead of 4"),
        ("1,2,3,x", "not a number: 'x'"),
        ("1,2,3,", "not a number: ''"),
        ("1,2,3,nan", "not finite"),
        ("1,2,-inf,4", "not finite"),
        ("1,2,3,\udcff", "not a number: '\\udcff'"),
    ],
    ids=["short", "word", "empty", "nan", "infinite", "not-utf-8"],
)
def test_bad_lines_of_csv(tmp_path: Path, row: str, error: str) -> None:
    content = f"a,b,c,d\n{row}\n1,2,3,4\n".encode(errors="surrogateescape")
    bad, good = _read(tmp_path, "a.csv", content)
    assert (bad.number, good) == (2, Line(3, None, "[1.0,2.0,3.0,4.0]"))
    assert error in (bad.error or "")
    bad.values.encode()


def test_json_lines(tmp_path: Path) -> None:
    text = '[1, 2]\n\n{"model": "iris", "values": [1,2,3,4]}\n{"values": {"image_path": "a"}}'
    assert _read(tmp_path, "a.jsonl", text) == [
        Line(1, None, "[1, 2]"),
        Line(3, "iris", "[1,2,3,4]"),
        Line(4, None, '{"image_path": "a"}'),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"7",
        b"null",
        b'{"model": "iris"}',
        b'{"values": 1, "more": 2}',
        b'{"values": "\xff"}',
        b"[1, NaN]",
        b"[" * 5000,
    ],
    ids=["cut", "number", "null", "no-values", "unknown-key", "not-utf-8", "nan", "deep"],
)
def test_bad_lines_of_json(tmp_path: Path, line: bytes) -> None:
    bad, good = _read(tmp_path, "a.jsonl", line + b"\n[1]\n")
    assert bad.number == 1
    assert bad.error
    assert good == Line(2, None, "[1]")


def test_a_line_that_is_too_long_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "MOST_BYTES", 16)
    first, bad, last = _read(tmp_path, "a.jsonl", "[1]\n[" + "1," * 50 + "1]\n[2]\n")
    assert (first.values, last) == ("[1]", Line(3, None, "[2]"))
    assert "longer than 16 bytes" in (bad.error or "")


def test_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = {"a": [1.5, None, float("nan")], "b": pa.array([1, 2, 3], pa.int8()), "model": ["iris", None, None]}
    pq.write_table(pa.table(columns), file)
    good, *bad = read_lines(file, "parquet")
    assert good == Line(1, "iris", "[1.5,1]")
    assert [(line.number, bool(line.error)) for line in bad] == [(2, True), (3, True)]
    assert next(read_lines(file, "parquet", columns=["b"])) == Line(1, "iris", "[1]")


def test_parquet_with_values(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"values": [[1.5, 2.0], [], None]}), file)
    assert [line.values for line in read_lines(file, "parquet")][:2] == ["[1.5,2.0]", "[]"]
    pq.write_table(pa.table({"values": [{"image_path": "a"}]}), file)
    (line,) = read_lines(file, "parquet")
    assert json.loads(line.values) == {"image_path": "a"}


def test_what_is_no_parquet_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a Parquet file"):
        _read(tmp_path, "a.parquet", "a,b\n")


def test_a_name_that_says_no_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--format"):
        format_of(tmp_path / "a.txt")


# --- rows of a model whose columns are known ---

COLUMNS = [Column("a b (cm)", "float32", "x"), Column("city", "string", "city"), Column("n", "int64", "n")]


def table(allow_nan: bool = False, *columns: Column) -> Any:
    known = Table(columns or COLUMNS, allow_nan)
    return lambda model: None if model == "other" else known


def test_columns_of_the_model_are_found_by_name(tmp_path: Path) -> None:
    lines = _read(tmp_path, "a.csv", "id,n,A_B,city,model\n1,2,3.5,007,\n1,4,5,é,tab\n", table=table())
    assert lines == [Line(2, None, '[3.5,"007",2]'), Line(3, "tab", '[5.0,"é",4]')]


def test_other_names_are_columns_in_order(tmp_path: Path) -> None:
    assert _read(tmp_path, "a.csv", "u,v,w\n3.5,7,2\n", table=table()) == [Line(2, None, '[3.5,"7",2]')]
    chosen = _read(tmp_path, "a.csv", "u,v,w,n\n2,7,3.5,0\n", table=table(), columns=["w", "v", "u"])
    assert chosen == [Line(2, None, '[3.5,"7",2]')]
    (line,) = _read(tmp_path, "a.csv", "u,v\n1,2\n", table=table())
    assert (line.values, line.error) == ("1,2", "2 values; the model has 3 columns")


def test_each_line_has_the_columns_of_its_model(tmp_path: Path) -> None:
    text = "n,model,city,a b (cm)\n1,,Bern,2\n1,other,2,3\n1,other,Bern,3\n"
    good, other, bad = _read(tmp_path, "a.csv", text, table=table())
    assert good == Line(2, None, '[2.0,"Bern",1]')
    assert other == Line(3, "other", "[1.0,2.0,3.0]")
    assert bad.error == "not a number: 'Bern'"


@pytest.mark.parametrize(
    ("cell", "dtype", "value"),
    [
        ("7", "int64", "7"),
        (" 7 ", "int64", "7"),
        ("9007199254740993", "int64", "9007199254740993"),
        ("7.5", "int64", "7.5"),
        ("99999999999999999999", "int64", "1e20"),
        ("7", "float32", "7.0"),
        ("true", "bool", "true"),
        ("0", "bool", "false"),
        ("2", "bool", "2.0"),
        ("", "string", '""'),
        ("nan", "string", '"nan"'),
    ],
)
def test_cells_are_read_as_the_column_demands(tmp_path: Path, cell: str, dtype: str, value: str) -> None:
    """What is of another type is left to the check of the values, which says so."""
    found = _read(tmp_path, "a.csv", f"b,a\n1,{cell}\n", table=table(False, Column("a", dtype, "a")))
    assert found == [Line(2, None, f"[{value}]")]


def test_a_missing_number_is_a_value_where_the_model_takes_it(tmp_path: Path) -> None:
    text = "a b (cm),city,n\n,Bern,1\nnan,Bern,1\ninf,Bern,1\nx,Bern,1\n"
    *good, infinite, word = _read(tmp_path, "a.csv", text, table=table(True))
    assert good == [Line(2, None, '[null,"Bern",1]'), Line(3, None, '[null,"Bern",1]')]
    assert "not finite" in (infinite.error or "")
    assert word.error == "not a number: 'x'"
    assert [bool(line.error) for line in _read(tmp_path, "a.csv", text, table=table())] == [True] * 4


def test_columns_of_parquet_are_found_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = {"n": [1, 2, None], "note": [b"x"] * 3, "city": ["Bern", None, "a"], "a b (cm)": [0.5, float("nan"), 1]}
    pq.write_table(pa.table(columns), file)
    first, *bad = read_lines(file, "parquet", table=table())
    assert first == Line(1, None, '[0.5,"Bern",1]')
    assert [bool(line.error) for line in bad] == [True, True]
    assert [line.values for line in read_lines(file, "parquet", table=table(True))] == [
        '[0.5,"Bern",1]', '[null,null,2]', '[1.0,"a",null]'
    ]  # fmt: skip
