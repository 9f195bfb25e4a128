"""Files into lines: what is read, what is rejected, and under which number."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving.batch.validation import check_values

from serving.batch import reading
from serving.batch.reading import Line, format_of, read_lines
from serving.core.errors import ConfigurationError


def _read(tmp_path: Path, name: str, content: str | bytes, **options: list[str]) -> list[Line]:
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
    monkeypatch.setattr(reading, "MOST_BYTES", 16)
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


@pytest.mark.parametrize(
    ("model", "values", "wrong"),
    [
        ("iris", "[1,2,3,4]", None),
        ("iris", "[1,2,3]", "4 finite numbers"),
        ("iris", "[1,2,3,null]", "4 finite numbers"),
        ("iris", "[1,2,3,1e39]", "4 finite numbers"),
        ("iris", '[1,2,3,"4"]', "4 finite numbers"),
        ("iris", "[1,2,3,NaN]", "4 finite numbers"),
        ("inception_v3", '{"image_path":"a.png"}', None),
        ("inception_v3", '{"image_url":"file:///a.png"}', None),
        ("inception_v3", '{"image_url":"http://host/a.png"}', "image_url"),
        ("inception_v3", '{"image_path":""}', "image_path"),
        ("wine", "[1]", "no model 'wine'"),
    ],
    ids=range(11),
)
def test_values_are_judged_by_their_model(model: str, values: str, wrong: str | None) -> None:
    found = check_values(model, values)
    assert found is None if wrong is None else wrong in (found or "")
