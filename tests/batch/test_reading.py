"""Files of rows into lines: what is read, what is rejected, and under which number."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from serving.batch.reading import FilesError, text
from serving.batch.reading.columns import match_columns
from serving.batch.reading.judge import Table
from serving.batch.reading.lines import Line, read_lines
from serving.batch.reading.options import ReadOptions
from serving.batch.reading.sources import find_source
from serving.core.columns import Column

IRIS = Table([Column(name, "float32", "x") for name in ("sepal length (cm)", "sepal width (cm)", "a", "b")], False)
FLATS = Table([Column("a b (cm)", "float32", "x"), Column("city", "string", "city"), Column("n", "int64", "n")], False)
SETOSA = "5.1,3.5,1.4,0.2"
HEADER = "sepal_length,sepal_width,a,b"
VALUES = "[5.1,3.5,1.4,0.2]"


def of(*columns: tuple[str, str], allow_nan: bool = False, named: bool = True) -> Table:
    return Table([Column(name, dtype, name) for name, dtype in columns], allow_nan, named)


def read(path: Path, table: Table | None = None, **options: Any) -> list[Line]:
    tables = {"other": None}
    return list(
        read_lines(find_source(str(path)), ReadOptions.parse(**options), lambda name: tables.get(name or "", table))
    )


def of_text(
    tmp_path: Path, content: str | bytes, table: Table | None = IRIS, *, name: str = "a.csv", **options: Any
) -> list[Line]:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(file, table, **options)


def found(lines: Sequence[Line]) -> list[tuple[int, str]]:
    """Number and values of each line, or its error."""
    return [(line.number, line.error or line.values) for line in lines]


# --- columns by name ---


@pytest.mark.parametrize(
    "header",
    [
        "sepal length (cm)",
        "sepal_length",
        "Sepal.Length",
        "SepalLength",
        "SEPAL LENGTH [cm]",
        " Sepal  Length ",
        "sepal-length",
    ],
)
def test_a_column_is_found_whatever_its_case_its_signs_and_its_unit(tmp_path: Path, header: str) -> None:
    lines = of_text(tmp_path, f'"",b,a,sepal_width,"{header}",id\n0,0.2,1.4,3.5,5.1,x\n')
    assert found(lines) == [(2, VALUES)]


def test_names_that_are_the_same_come_before_those_that_are_alike() -> None:
    assert match_columns(["A", "a", "b"], ["a", "A"]) == [1, 0]
    assert match_columns(["x[1]", "x[0]"], ["x[0]", "x[1]"]) == [1, 0]
    assert match_columns(["X 1.0", "X 10"], ["x_10", "x_1_0"]) == [1, 0]
    assert match_columns(["Länge", "Breite", "长度", "宽度"], ["宽度 ", "LÄNGE"]) == [3, 0]
    assert match_columns(["length (mm)"], ["length (cm)"]) == [None], "another unit"


@pytest.mark.parametrize(
    ("available", "wanted", "message"),
    [
        (["sepal_length", "Sepal Length"], ["sepal length (cm)"], "sepal_length, Sepal Length"),
        (["a", "a"], ["a"], "several columns may be a: a, a"),
        (["x"], ["x[0]", "x[1]"], "may be x"),
    ],
)
def test_what_is_ambiguous_is_refused_with_the_candidates(
    available: list[str], wanted: list[str], message: str
) -> None:
    with pytest.raises(FilesError) as caught:
        match_columns(available, wanted)
    assert message in str(caught.value)


def test_a_header_of_other_names_is_refused_unless_columns_are_named(tmp_path: Path) -> None:
    content = f"p,q,r,s\n{SETOSA}\n"
    with pytest.raises(FilesError, match=r"no column sepal length \(cm\), .*; the file has p, q, r, s\. .*--columns"):
        of_text(tmp_path, content)
    assert found(of_text(tmp_path, content, columns="p,q,r,s")) == [(2, VALUES)]
    assert found(of_text(tmp_path, f"s,r,q,p,x\n{SETOSA},\n", columns="p,q,r,s")) == [(2, "[0.2,1.4,3.5,5.1]")]
    with pytest.raises(FilesError, match="no column z; the file has"):
        of_text(tmp_path, content, columns="p,q,r,z")
    with pytest.raises(FilesError, match="names 2 columns, and the model takes 4"):
        of_text(tmp_path, content, columns="p,q")
    assert found(of_text(tmp_path, '"p,1",q\n1,2\n', of(("u", "float32")), columns='"p,1"')) == [(2, "[1.0]")]


def test_a_first_line_without_a_letter_is_a_row(tmp_path: Path) -> None:
    assert found(of_text(tmp_path, SETOSA)) == [(1, VALUES)]
    assert found(of_text(tmp_path, f"{SETOSA},\n{SETOSA},\n")) == [(1, VALUES), (2, VALUES)]
    assert found(of_text(tmp_path, "1e-5,3.5,1.4,0.2")) == [(1, "[0.00001,3.5,1.4,0.2]")]
    (line,) = of_text(tmp_path, "5_1,3_5,1_4,0_2\n")
    assert (line.error or "").startswith("sepal length (cm) (column 1): '5_1' is not a number")
    assert found(of_text(tmp_path, "2.5,Bern,2\n", FLATS)) == [(1, '[2.5,"Bern",2]')]
    with pytest.raises(FilesError, match="no column"):
        of_text(tmp_path, "1,2,3\n4,5,6\n")
    with pytest.raises(FilesError, match="0,1,2,3: give --no-header where it is a row, --columns 0,1,2,3 where"):
        of_text(tmp_path, f"0,1,2,3\n{SETOSA}\n")
    assert found(of_text(tmp_path, f"0,1,2,3\n{SETOSA}\n", columns="0,1,2,3")) == [(2, VALUES)]


def test_without_a_header_columns_have_numbers(tmp_path: Path) -> None:
    assert len(of_text(tmp_path, f"0,1,2,3\n{SETOSA}\n", no_header=True)) == 2
    assert found(of_text(tmp_path, f"x,{SETOSA}\n", no_header=True, columns="2,3,4,5")) == [(1, VALUES)]
    with pytest.raises(FilesError, match=r"has 5 values, and the model takes 4.*--no-header --columns"):
        of_text(tmp_path, f"x,{SETOSA}\n", no_header=True)
    names = of(("p", "string"), ("q", "string"))
    assert found(of_text(tmp_path, "a,b\n", names, no_header=True)) == [(1, '["a","b"]')]
    with pytest.raises(FilesError, match="no column p"):
        of_text(tmp_path, "a,b\n", names)


@pytest.mark.parametrize("prefix", ["X_", "x", "f", "F", "feature_", "Column_"])
def test_columns_of_a_model_without_names_are_numbered(tmp_path: Path, prefix: str) -> None:
    table = of(*((f"X_{number}", "float32") for number in range(3)), named=False)
    lines = of_text(tmp_path, f"id,{prefix}2,{prefix}1,{prefix}0\n7,3,2,1\n", table)
    assert found(lines) == [(2, "[1.0,2.0,3.0]")]
    with pytest.raises(FilesError, match="no column X_0"):
        of_text(tmp_path, "p,q,r\n1,2,3\n", table)


def test_each_line_has_the_columns_of_its_model(tmp_path: Path) -> None:
    content = "n,model,city,a b (cm)\n1,,Bern,2\n1,other,2,3\n1,other,Bern,3\n"
    good, other, bad = of_text(tmp_path, content, FLATS)
    assert good[1:5] == (2, None, '[2.0,"Bern",1]', None)
    assert other[1:5] == (3, "other", "[1.0,2.0,3.0]", None)
    assert (bad.error or "").startswith("city: 'Bern' is not a number")
    own = of(("model", "string"), ("n", "int64"))
    assert of_text(tmp_path, "n,model\n1,VW\n", own)[0][2:5] == (None, '["VW",1]', None)


def test_values_may_be_json_in_a_column(tmp_path: Path) -> None:
    (line,) = of_text(tmp_path, 'model,values\niris,"[1,2,3,4]"\n')
    assert line[1:5] == (2, "iris", "[1,2,3,4]", None)


# --- the text ---


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)  # fmt: skip
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ["note,Sepal Length (cm),sepal_width,a,b", f"é,{SETOSA}", "", f"é,{SETOSA}", "", ""]
    content = end.join(lines).encode(encoding)
    if encoding == "utf-16-be":
        content = b"\xfe\xff" + content
    given = {"encoding": encoding} if encoding in ("cp1252", "latin-1") else {}
    assert found(of_text(tmp_path, content, **given)) == [(2, VALUES), (4, VALUES)]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (f"{HEADER}\n{SETOSA}\n".replace(",", ";"), {}, "semicolons separate the values: give --delimiter ';'$"),
        (
            f"{HEADER}\n{SETOSA}\n".replace(",", ";").replace(".", ","),
            {},
            "semicolons separate the values and numbers have decimal commas: give --delimiter ';' --decimal ','$",
        ),
        ("5,1;3,5;1,4;0,2\n", {}, "semicolons .* decimal commas: give --delimiter ';' --decimal ','$"),
        (f"{HEADER}\n{SETOSA}\n".replace(",", "\t"), {}, "tabs separate the values: give --delimiter tab$"),
        (f"{HEADER}\n{SETOSA}\n".replace(",", "|"), {}, r"bars separate .*--delimiter '\|'$"),
        (f"{HEADER}\n{SETOSA}\n", {"delimiter": ";"}, "no column sepal length"),
        (f"sep=;\n{HEADER}\n{SETOSA}\n".replace(",", ";").replace(".", ","), {}, "decimal comma, such as 5,1"),
        (f"{HEADER}\n{SETOSA}\n".replace(",", ";"), {"delimiter": ";", "decimal": ","}, "leave --decimal out"),
        (f'{HEADER}\n"5,1","3,5","1,4","0,2"\n', {}, "decimal comma, such as 5,1: give --decimal ','"),
        (f"note,{HEADER}\né,{SETOSA}\n".encode("latin-1"), {}, "line 2: the byte 0xE9 is not UTF-8; .* cp1252"),
        (f"{HEADER}\n{SETOSA}\n".encode("utf-16-le"), {}, "NUL byte; it looks like UTF-16: give --encoding utf-16-le"),
        (f"{HEADER}\n{SETOSA}\n".encode("utf-16-be"), {}, "give --encoding utf-16-be"),
        (f"{HEADER}\n{SETOSA}\n1,2,\0,4\n", {}, "line 3: there is a NUL byte; it is no text"),
        (f"{HEADER}\n{SETOSA}\n".encode(), {"encoding": "utf-16"}, "not in utf-16"),
        (f'{HEADER}\n{SETOSA}\n1,"2,3,4\n{SETOSA}\n', {}, "line 3: a quoted value that begins here has no end"),
        ("", {}, "the file is empty"),
        ("\n\n", {}, "the file is empty"),
        ("\ufeff", {}, "the file is empty"),
    ],
)  # fmt: skip
def test_a_file_of_another_dialect_is_one_error_that_says_what_to_give(
    tmp_path: Path, content: str | bytes, options: dict[str, str], message: str
) -> None:
    with pytest.raises(FilesError, match=message) as caught:
        of_text(tmp_path, content, **options)
    assert "a.csv" in str(caught.value)


@pytest.mark.parametrize("delimiter", [";", "tab", "\\t", "|", "space", "¦"])
def test_options_of_csv(tmp_path: Path, delimiter: str) -> None:
    sign = {"tab": "\t", "\\t": "\t", "space": " "}.get(delimiter, delimiter)
    content = f"{HEADER}\n{SETOSA}\n".replace(",", sign).replace(".", ",")
    assert found(of_text(tmp_path, content, delimiter=delimiter, decimal=",")) == [(2, VALUES)]
    assert found(of_text(tmp_path, f"sep={sign}\r\n{content}", decimal=",")) == [(3, VALUES)]


def test_a_number_with_a_decimal_comma_has_no_point(tmp_path: Path) -> None:
    lines = of_text(tmp_path, f"{HEADER}\n5,1;3,5;1,4;0,2\n1.5;1;1;1\n1.000,5;1;1;1\n".replace("length,", "length;")
                    .replace("width,a,b", "width;a;b"), delimiter=";", decimal=",")  # fmt: skip
    assert [line.error is None for line in lines] == [True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";;"}, "--delimiter: ';;' is not one sign"),
        ({"delimiter": '"'}, "--delimiter"),
        ({"delimiter": ",", "decimal": ","}, "--delimiter and --decimal are both ','"),
        ({"encoding": "klingon"}, "--encoding: 'klingon'"),
        ({"encoding": "base64"}, "--encoding: 'base64'"),
        ({"columns": "a,b,a"}, "--columns names a column twice"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReadOptions.parse(**options)


def test_quotes_line_breaks_and_delimiters_at_the_end(tmp_path: Path) -> None:
    content = (
        'note,"sepal_length",sepal_width,a,b,,\r\n"x ""y"",\r\nz","5.1"," 3.5 ",1.4,0.2\r\n'
        '\r\n,5.1,3.5,1.4,0.2,,\r\n"a"b,1,1,1,1\r\n1,2\r\n,1,1,1,1,9\r\n,5.1,3.5,1.4,0.2\r\n'
    )
    lines = of_text(tmp_path, content)
    assert found(lines) == [
        (2, VALUES),
        (5, VALUES),
        (6, "there is text after the closing quote of a value; double quotes inside a value"),
        (7, "2 values, and there are 5 columns"),
        (8, "6 values, and there are 5 columns"),
        (9, VALUES),
    ]


@pytest.mark.parametrize(
    ("cell", "dtype", "value"),
    [
        ("7", "int64", "7"),
        (" 7 ", "int64", "7"),
        ("7.0", "int64", "7"),
        ("9007199254740993", "int64", "9007199254740993"),
        ("7", "float32", "7.0"),
        ("true", "bool", "true"),
        ("False", "bool", "false"),
        ("0", "bool", "false"),
        ("", "string", '""'),
        ("nan", "string", '"nan"'),
        ("007", "string", '"007"'),
    ],
)
def test_cells_are_read_as_the_column_demands(tmp_path: Path, cell: str, dtype: str, value: str) -> None:
    assert found(of_text(tmp_path, f"b,a\n1,{cell}\n", of(("a", dtype)))) == [(2, f"[{value}]")]


@pytest.mark.parametrize(
    ("cell", "dtype", "error"),
    [
        ("x", "float32", "a: 'x' is not a number: write it as JSON does, such as 5.1, -3 or 1e-7"),
        ("5_1", "int8", "a: '5_1' is not a number"),
        ("1e39", "float32", "a: '1e39' is too large for float32"),
        ("inf", "float64", "a: 'inf' is not a number: numbers have to be finite"),
        ("7.5", "int64", "a: '7.5' is not a whole number"),
        ("300", "uint8", "a: '300' is not within 0 to 255"),
        ("", "float32", "a: the value is missing; the model takes float32"),
        ("NA", "int64", "a: the value is missing; the model takes int64"),
        ("yes", "bool", "a: 'yes' is neither true nor false"),
    ],
)
def test_an_error_names_the_column_the_value_and_what_is_expected(
    tmp_path: Path, cell: str, dtype: str, error: str
) -> None:
    (line,) = of_text(tmp_path, f"b,a\n1,{cell}\n", of(("a", dtype)))
    assert (line.file, line.number, line.values) == (str(tmp_path / "a.csv"), 2, f"1,{cell}")
    assert (line.error or "").startswith(error)


def test_a_missing_number_is_null_where_the_model_takes_it(tmp_path: Path) -> None:
    table = of(("a", "float32"), ("n", "int64"), allow_nan=True)
    lines = of_text(tmp_path, "a,n\n,1\nNA,1\nNaN,1\n1,\ninf,1\n", table)
    assert [line.error or line.values for line in lines[:3]] == ["[null,1]"] * 3
    assert [bool(line.error) for line in lines[3:]] == [True, True]


# --- compressed files and other formats ---

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue()) or packed


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_text(tmp_path: Path, suffix: str) -> None:
    pack = PACKERS.get(suffix, zstd)
    content = f"{HEADER}\n{SETOSA}\n".encode()
    assert found(of_text(tmp_path, pack(content), name=f"a.csv{suffix}")) == [(2, VALUES)]
    assert found(of_text(tmp_path, pack(content), name="b.csv")) == [(2, VALUES)], "the content tells"
    assert found(of_text(tmp_path, content, name=f"c.csv{suffix}")) == [(2, VALUES)]
    lines = pack(f"[{SETOSA}]\n".encode())
    assert found(of_text(tmp_path, lines, name=f"a.jsonl{suffix}")) == [(1, VALUES)]
    with pytest.raises(FilesError, match="damaged or end too early"):
        of_text(tmp_path, pack(content * 1000)[:-10], name=f"d.csv{suffix}")


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_BYTES", 3_000_000)
    bomb = gzip.compress(b"1" * 200_000_000)
    with pytest.raises(FilesError, match="line 1: the line is longer than 3000000 bytes"):
        of_text(tmp_path, bomb, name="a.csv.gz")
    with pytest.raises(FilesError, match="line 2: the line is longer"):
        of_text(tmp_path, b"[1]\n[" + b"1," * 4_000_000, name="a.jsonl")


def test_json_lines(tmp_path: Path) -> None:
    content = (
        '\ufeff[1, 2]\n\n{"model": "iris", "values": [1,2,3,4]}\r\n{"values": {"image_path": "a"}}\n'
        '{"id": "x", "B": 4, "a": 3, "Sepal Width": 2, "sepal_length": 1}'
    )
    lines = of_text(tmp_path, content, name="a.jsonl")
    assert [line[1:5] for line in lines] == [
        (1, None, "[1, 2]", None),
        (3, "iris", "[1,2,3,4]", None),
        (4, None, '{"image_path": "a"}', None),
        (5, None, "[1,2,3,4]", None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"7",
        b"null",
        b'{"model": "iris"}',
        b'{"values": 1, "more": 2}',
        b"[1, NaN]",
        b"[" * 5000,
        b'{"model": 1, "values": [1]}',
    ],
    ids=["cut", "number", "null", "no-values", "unknown-key", "nan", "deep", "model"],
)
def test_bad_lines_of_json(tmp_path: Path, line: bytes) -> None:
    good, bad, last = of_text(tmp_path, b"[1]\n" + line + b"\n[1]\n", name="a.jsonl")
    assert (bad.number, good.values, last.values) == (2, "[1]", "[1]")
    assert bad.error


@pytest.mark.parametrize("content", ["[[1,2],[3,4]]", '[{"a": 1}]', "[\n  [1, 2]\n]\n", '{\n "data": []\n}\n'])
def test_a_json_document_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FilesError, match=r"one JSON document.*jq -c"):
        of_text(tmp_path, content, name="a.json")
    assert found(of_text(tmp_path, "[1]\n[2]\n", name="b.json")) == [(1, "[1]"), (2, "[2]")]


def write(path: Path, columns: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def test_parquet_of_any_type(tmp_path: Path) -> None:
    columns = {
        "note": [{"deep": [1]}] * 3,
        "N": pa.array([2, None, 3], pa.int32()),
        "city": pa.array(["Bern", "007", None], pa.large_string()).dictionary_encode(),
        "a_b": pa.array([Decimal("3.50"), Decimal("-1.00"), None], pa.decimal128(5, 2)),
    }
    lines = read(write(tmp_path / "a.parquet", columns, row_group_size=1), FLATS)
    assert found(lines) == [
        (1, '[3.5,"Bern",2]'),
        (2, "N: the value is missing; the model takes int64"),
        (3, "a_b: the value is missing; the model takes float32"),
    ]
    for kind in ("float16", "float64", "int8", "uint64", "decimal256(40, 2)", "large_string", "string_view"):
        values = pa.array([2]).cast(pa.decimal256(40, 2) if "decimal" in kind else kind)
        (line,) = read(write(tmp_path / "b.parquet", {"n": values}), of(("n", "int64")))
        assert line.values == "[2]", kind
    assert (
        read(write(tmp_path / "c.parquet", {"n": [float("nan")]}), of(("n", "float32"), allow_nan=True))[0].values
        == "[null]"
    )
    (infinite,) = read(write(tmp_path / "d.parquet", {"n": [float("inf")]}), of(("n", "float32")))
    assert "finite" in (infinite.error or "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1], pa.date32()), r"n is date32\[day\], and the model takes float32: make a number of it"),
        (pa.array([1], pa.timestamp("ms")), "make a number of it"),
        (pa.array([[1.0]]), "give each of its values a column of its own"),
        (pa.array([{"a": 1}]), "a column of its own"),
        (pa.array([b"x"]), "write it as text or numbers"),
    ],
)
def test_types_that_no_model_takes_are_refused_at_once(tmp_path: Path, values: pa.Array, message: str) -> None:
    with pytest.raises(FilesError, match=message):
        read(write(tmp_path / "a.parquet", {"n": values}), of(("n", "float32")))


def test_parquet_with_values(tmp_path: Path) -> None:
    lists = {"values": [[1.5, 2.0], [], None], "model": ["iris", None, None]}
    assert [line[2:4] for line in read(write(tmp_path / "a.parquet", lists))] == [
        ("iris", "[1.5,2.0]"), (None, "[]"), (None, "null")
    ]  # fmt: skip
    (line,) = read(write(tmp_path / "b.parquet", {"values": [{"image_path": "a"}]}))
    assert json.loads(line.values) == {"image_path": "a"}


def test_options_of_csv_are_not_for_parquet(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", {"n": [1]})
    with pytest.raises(FilesError, match="parquet, for which there is no --delimiter and no --encoding"):
        read(file, FLATS, delimiter=";", encoding="cp1252")
    assert found(read(write(tmp_path / "b.parquet", {"x": [1]}), of(("n", "int64")), columns="x")) == [(1, "[1]")]


OTHERS: dict[str, tuple[bytes, str]] = {
    "a.xlsx": (b"PK\x03\x04", "an Excel workbook.*save its sheet as CSV UTF-8"),
    "a.ods": (b"PK\x03\x04", "OpenDocument"),
    "a.sav": (b"$FL2", "SPSS"),
    "a.pkl": (pickle.dumps([[1, 2]]), "a pickle.*runs code"),
    "a.csv.zip": (b"PK\x03\x04", "an archive.*unpack"),
    "a.feather": (b"ARROW1", "an Arrow file.*Parquet"),
    "a.orc": (b"ORC", "an ORC file.*Parquet"),
    "a.parquet.gz": (b"\x1f\x8b", "compressed Parquet"),
    "a.txt": (b"1,2", "name has to end in .csv"),
    "pickled.csv": (pickle.dumps([[1, 2]]), "a pickle.*runs code"),
    "workbook.csv": (b"PK\x03\x04\x00\x00", "an archive"),
    "old.csv": (b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook"),
    "parquet.csv": (b"PAR1\x00", "is Parquet: let its name end in .parquet"),
    "a.parquet": (b"a,b\n", "not a Parquet file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_name_and_by_content(tmp_path: Path, name: str) -> None:
    content, message = OTHERS[name]
    with pytest.raises(FilesError, match=message):
        of_text(tmp_path, content, name=name)


# --- directories ---


def test_a_directory_is_read_as_a_whole_and_says_what_it_skips(tmp_path: Path) -> None:
    for number, name in enumerate(("year=2024/a.csv", "year=2025/b.csv.gz")):
        file = tmp_path / name
        file.parent.mkdir()
        content = f"{HEADER}\n{number},3.5,1.4,0.2\n".encode()
        file.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for name in ("README", "year=2024/notes.xlsx", "empty.csv"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"x")
    for name in ("_SUCCESS", ".a.csv.crc", "a.csv.crc", ".hidden.csv"):
        (tmp_path / name).write_bytes(b"x")
    source = find_source(str(tmp_path))
    assert source.skipped == ["README", "empty.csv", "year=2024/notes.xlsx"]
    assert [line.values[:4] for line in read(tmp_path, IRIS)] == ["[0.0", "[1.0"]
    assert len(find_source(f"{tmp_path}/*/*.csv").files) == 1
    odd = tmp_path / "a[1].csv"
    odd.write_text(f"{HEADER}\n{SETOSA}\n")
    assert found(read(odd, IRIS)) == [(2, VALUES)]
    write(tmp_path / "a.parquet", {"n": [1]})
    with pytest.raises(FilesError, match="files of csv and parquet; name those of one kind"):
        find_source(str(tmp_path))
    with pytest.raises(FilesError, match="there is no such file"):
        find_source(str(tmp_path / "nothing.csv"))


@pytest.mark.parametrize(
    ("mark", "kind"),
    [("_delta_log/0.json", "Delta"), (".hoodie/hoodie.properties", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
def test_table_formats_are_refused_however_they_are_named(tmp_path: Path, mark: str, kind: str) -> None:
    write(tmp_path / "table" / "year=2024" / "a.parquet", {"n": [1]})
    log = tmp_path / "table" / mark
    log.parent.mkdir()
    log.write_text("{}")
    for name in (".", "table", "table/year=2024", "table/year=2024/a.parquet", "table/*/*.parquet"):
        with pytest.raises(FilesError, match=f"{kind} table.*its own library"):
            find_source(str(tmp_path / name))
