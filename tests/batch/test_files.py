"""`serving batch score-files`: what it writes, which rows fail, and how it goes on after it was killed."""

from __future__ import annotations

import ast
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from serving.batch.files.run import Threads, plan, run
from serving.core.errors import InvalidInputError
from serving.core.tensors import NOT_FINITE, Tensors
from serving.placement import open_engine
from serving.settings import get_settings
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel, open_model
from tests import example_models
from tests.batch.files import COLUMNS, Command, Scored, features, read, table, write
from tests.jobs.test_work import Counting
from tests.server import ROOT

LABELS = ("setosa", "versicolor", "virginica")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], model_store: Path) -> Command:  # noqa: ARG001 - it has to be filled
    return Command(capsys)


@pytest.fixture(scope="module")
def engine(model_store: Path) -> Scored:  # noqa: ARG001
    return Scored(open_model("iris:latest"))


def check(rows: list[dict[str, Any]], engine: Scored) -> None:
    """Every good row has what the engine says of it alone, as `/iris/predict` would answer."""
    good = [row for row in rows if row["error"] is None]
    expected = [engine.predict(np.array([[float(row[name]) for name in COLUMNS]], np.float32))[0] for row in good]
    np.testing.assert_allclose([row["probabilities"] for row in good], expected, rtol=0, atol=1e-6)
    for row in rows:
        assert row["model_tag"] == engine.model.tag
        if row["error"] is None:
            assert row["label"] == LABELS[int(np.argmax(row["probabilities"]))]
        else:
            assert row["probabilities"] is row["label"] is None


def test_rows_keep_their_columns_and_get_results(command: Command, engine: Scored, tmp_path: Path) -> None:
    content = table(300).append_column("note", pa.array(["ä"] * 300).dictionary_encode())
    source = write(tmp_path / "rows.parquet", content)
    status, summary, errors = command(source, tmp_path / "out", "--batch-rows", 100)
    assert (status, errors) == (0, "")
    assert {name: summary[name] for name in ("rows", "failed", "parts", "parts_done_before", "model_tag")} == {
        "rows": 300, "failed": 0, "parts": 1, "parts_done_before": 0, "model_tag": engine.model.tag
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_committed", "_manifest.json", "part-00000.parquet"
    ]  # fmt: skip
    written = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert written.select(content.column_names).equals(content)
    assert written.column_names == [*content.column_names, "probabilities", "label", "model_tag", "error"]
    check(written.to_pylist(), engine)


def test_one_engine_call_for_a_batch(engine: Scored, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", table(1000), row_group_size=10)
    counting = Counting(engine.engine)
    planned = plan(str(tmp_path / "rows.parquet"), str(tmp_path / "out"), engine.model, batch_rows=400)
    told: list[tuple[int, int]] = []
    run(planned, Threads(counting, threads=1), tell=lambda good, bad: told.append((good, bad)))
    assert counting.calls == [400, 400, 200]
    assert told == [(400, 0), (400, 0), (200, 0)]


BAD: dict[str, Any] = {
    "sepal_length": [5.1, None, float("nan"), float("inf"), 1e300, 5.1, 5.1, 3e38],
    "sepal_width": ["3.5", "3.5", "3.5", "3.5", "3.5", "three", " 3.5 ", "3.5"],
    "petal_length": pa.array([1, 1, 1, 1, 1, None, 1, 1], pa.int16()),
    "petal_width": pa.array([True] * 8).cast(pa.float32()),
}
REASONS = [
    None,
    "sepal_length: the value is missing; the model takes float32",
    "sepal_length: the value is missing; the model takes float32",
    "sepal_length: 'inf' is not a number: numbers have to be finite",
    "sepal_length: '1e+300' is too large for float32",
    "sepal_width: 'three' is not a number: write it as JSON does, such as 5.1, -3 or 1e-7",
    None,
]


def test_bad_rows_fail_alone(command: Command, engine: Scored, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", {name: values[:7] for name, values in BAD.items()})
    status, summary, errors = command(tmp_path / "rows.parquet", tmp_path / "out")
    assert (status, summary["rows"], summary["failed"]) == (3, 7, 5)
    shown = [f"{tmp_path}/rows.parquet, row {row}: {why}" for row, why in enumerate(REASONS, 1) if why]
    assert errors.splitlines() == shown
    rows = read(tmp_path / "out")
    assert [row["error"] for row in rows] == REASONS
    check(rows, engine)


def test_a_column_of_something_else_is_one_error(command: Command, tmp_path: Path) -> None:
    days = pa.array([1, None], pa.date32())
    write(tmp_path / "rows.parquet", {name: [1.0, 1.0] for name in COLUMNS} | {"petal_width": days})
    status, _, errors = command(tmp_path / "rows.parquet", tmp_path / "out")
    assert (status, "the column petal_width is date32" in errors) == (1, True)


def test_a_row_whose_probabilities_are_not_finite_fails(engine: Scored, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", table(5))

    class Overflowing(Counting):
        def _call(self, tensors: Tensors) -> Tensors:
            found = {name: array.copy() for name, array in super()._call(tensors).items()}
            found["probabilities"][2, 1] = np.nan
            return found

    planned = plan(str(tmp_path / "rows.parquet"), str(tmp_path / "out"), engine.model)
    assert run(planned, Threads(Overflowing(engine.engine), threads=1)).failed == 1
    rows = read(tmp_path / "out")
    assert [row["error"] for row in rows] == [None, None, NOT_FINITE, None, None]
    check(rows, engine)


@pytest.mark.parametrize("kind", ["float16", "float32", "int64", "uint8", "decimal128(5, 1)", "string", "dictionary"])
def test_numbers_of_any_type_are_the_same_numbers(kind: str, engine: Scored, tmp_path: Path) -> None:
    values = pa.array(features(20).round(0).ravel())
    if kind == "dictionary":
        column = values.cast("string").dictionary_encode()
    else:
        column = values.cast(pa.decimal128(5, 1) if kind.startswith("decimal") else kind)
    write(tmp_path / "rows.parquet", {name: column[index::4] for index, name in enumerate(COLUMNS)})
    planned = plan(str(tmp_path / "rows.parquet"), str(tmp_path / "out"), engine.model)
    assert run(planned, Threads(engine.engine, threads=1)).failed == 0
    check(read(tmp_path / "out"), engine)


def test_a_directory_is_scored_below_its_directories(command: Command, engine: Scored, tmp_path: Path) -> None:
    for day in (1, 2):
        content = table(2000, seed=day, first_id=2000 * day)
        write(tmp_path / "in" / f"day={day}" / "rows.parquet", content, row_group_size=1000)
    write(tmp_path / "in" / "_tools" / "rows.parquet", {"other": [1]})
    (tmp_path / "in" / "README").write_text("not rows")
    status, summary, _ = command(tmp_path / "in", tmp_path / "out", "--part-rows", 1000)
    assert (status, summary["rows"], summary["parts"]) == (0, 4000, 4)
    rows = read(tmp_path / "out", partitioning="hive")
    assert [(row["id"], row["day"]) for row in rows] == [(number, number // 2000) for number in range(2000, 6000)]
    check(rows[::50], engine)


def csv_rows(path: Path) -> list[dict[str, Any]]:
    """As text, but for the probabilities."""
    import csv

    rows = []
    for part in sorted(path.glob("*.csv")):
        with part.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found: dict[str, Any] = {name: value or None for name, value in row.items()}
                found["probabilities"] = json.loads(row["probabilities"] or "null")
                rows.append(found)
    return rows


def test_csv_is_kept_as_it_is_written(command: Command, engine: Scored, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "\ufeffcode,Sepal.Length,sepal width,petal length (cm),PETAL_WIDTH\r\n"
        '007,5.10,3.5,1.4,0.2\r\n"a ""b"", c",6.3,3.3,6.0,2.5\r\n,,3.3,6.0,2.5\r\nx,5.1,3.5\r\ny,5.1,3.5,1.4,0.2,9\r\n'
        "z,5.1,3.5,NaN,0.2\r\n"
    )
    status, summary, errors = command(tmp_path / "rows.csv", tmp_path / "out")
    assert (status, summary["rows"], summary["failed"]) == (3, 6, 4)
    assert [int(line.split("line ")[1].split(":")[0]) for line in errors.splitlines()] == [4, 5, 6, 7]
    rows = csv_rows(tmp_path / "out")
    assert {row["code"]: row["error"] for row in rows} == {
        "007": None,
        'a "b", c': None,
        None: "Sepal.Length: the value is missing; the model takes float32",
        "x": "3 values, and there are 5 columns",
        "y": "6 values, and there are 5 columns",
        "z": "petal length (cm): the value is missing; the model takes float32",
    }
    first = rows[0]
    assert [first[name] for name in list(first)[1:5]] == ["5.10", "3.5", "1.4", "0.2"]
    expected = engine.predict(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32))[0]
    np.testing.assert_array_equal(np.array(first["probabilities"], np.float32), expected)
    assert (first["label"], first["model_tag"]) == ("setosa", engine.model.tag)


@pytest.mark.parametrize("first", ["id,{}\n", "\ufeffsep=,\r\nid,{}\r\n", '"id",{}\n', ""])
def test_csv_in_parts_is_the_same_as_in_one(command: Command, tmp_path: Path, first: str) -> None:
    ids = [f"{number}," if first else "" for number in range(5000)]
    lines = [name + ",".join(map(str, row)) for name, row in zip(ids, features(5000), strict=True)]
    (tmp_path / "rows.csv").write_text(first.format(",".join(COLUMNS)) + "\n".join(lines), newline="")
    assert command(tmp_path / "rows.csv", tmp_path / "one")[1]["parts"] == 1
    status, summary, _ = command(tmp_path / "rows.csv", tmp_path / "many", "--part-rows", 1000, "--batch-rows", 64)
    assert (status, summary["rows"]) == (0, 5000)
    assert summary["parts"] > 2
    assert csv_rows(tmp_path / "many") == csv_rows(tmp_path / "one")


def test_a_quoted_line_break_is_never_cut(command: Command, tmp_path: Path) -> None:
    lines = [f'"{number}\nsaid ""hi""\n",' + ",".join(map(str, row)) for number, row in enumerate(features(4000))]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(["id", *COLUMNS]), *lines, '"torn",1', ""]))
    status, summary, errors = command(tmp_path / "rows.csv", tmp_path / "many", "--part-rows", 1000)
    assert (status, summary["rows"], summary["failed"]) == (3, 4001, 1)
    assert summary["parts"] > 2
    assert "rows.csv, line 12002: 2 values, and there are 5 columns" in errors
    assert [row["id"] for row in csv_rows(tmp_path / "many")][:4000] == [f'{n}\nsaid "hi"\n' for n in range(4000)]


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv"])
def test_what_cannot_be_cut_is_one_part(command: Command, engine: Scored, tmp_path: Path, name: str) -> None:
    lines = [",".join(COLUMNS).replace(",", ";"), *(";".join(map(str, row)) for row in features(3000)), "x;1;1;1"]
    content = "\r".join(lines)
    file = tmp_path / name
    file.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode("utf-16"))
    arguments = ("--part-rows", 1000, "--batch-rows", 100, "--delimiter", ";")
    status, summary, errors = command(file, tmp_path / "out", *arguments)
    assert (status, summary["rows"], summary["failed"], summary["parts"]) == (3, 3001, 1, 1)
    assert f"{file}, line 3002: sepal_length: 'x' is not a number" in errors
    check(csv_rows(tmp_path / "out")[::100], engine)
    assert command(file, tmp_path / "out", *arguments, "--decimal", ".")[0] == 1, "what is pinned is another reading"


def test_json_lines_are_kept_as_they_are(command: Command, engine: Scored, tmp_path: Path) -> None:
    lines = [
        "[5.1,3.5,1.4,0.2]",
        '{"id":7,"petal_width":0.2,"petal_length":1.4,"sepal_width":3.5,"Sepal Length":5.1}',
        "[5.1,3.5,1.4]",
        '{"model":"other","values":[5.1,3.5,1.4,0.2]}',
        "{",
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    status, summary, errors = command(tmp_path / "rows.jsonl", tmp_path / "out")
    assert (status, summary["rows"], summary["failed"]) == (3, 5, 3)
    assert [line.split("line ")[1][0] for line in errors.splitlines()] == ["3", "4", "5"]
    rows = read(tmp_path / "out")
    assert [row["line"] for row in rows] == lines
    expected = engine.predict(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32))[0]
    assert [row["probabilities"] for row in rows[:2]] == [expected.tolist()] * 2


def test_one_format_to_the_other(command: Command, engine: Scored, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", {name: values[:7] for name, values in BAD.items()})
    assert command(tmp_path / "rows.parquet", tmp_path / "scored.csv")[0] == 3
    assert command(tmp_path / "scored.csv" / "part-00000.csv", tmp_path / "out")[0] == 1, "it has the added columns"
    rows = csv_rows(tmp_path / "scored.csv")
    assert [row["error"] for row in rows] == REASONS
    check(rows, engine)
    text = (tmp_path / "scored.csv" / "part-00000.csv").read_text().replace("probabilities", "p")
    (tmp_path / "again.csv").write_text(text.replace("label", "l").replace("model_tag", "t").replace('"error"', "e"))
    assert command(tmp_path / "again.csv", tmp_path / "out", "--format", "parquet")[0] == 3
    assert [row["error"] for row in read(tmp_path / "out")] == REASONS


def test_no_rows_are_no_error(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", table(0))
    assert command(tmp_path / "rows.parquet", tmp_path / "out")[:2][0] == 0
    assert pq.read_table(tmp_path / "out" / "part-00000.parquet").column_names[-1] == "error"
    (tmp_path / "rows.csv").write_text(",".join(COLUMNS))
    assert command(tmp_path / "rows.csv", tmp_path / "csv")[0] == 0


def test_columns_may_be_named(command: Command, engine: Scored, tmp_path: Path) -> None:
    content = table(10).rename_columns(["id", "a", "b", "c", "d"])
    write(tmp_path / "rows.parquet", content)
    status, _, errors = command(tmp_path / "rows.parquet", tmp_path / "out")
    assert status == 1
    assert "no column sepal length (cm), " in errors
    assert "--columns" in errors
    assert command(tmp_path / "rows.parquet", tmp_path / "out", "--columns", "a,b,c,d")[0] == 0
    rows = [row | {name: row["abcd"[index]] for index, name in enumerate(COLUMNS)} for row in read(tmp_path / "out")]
    check(rows, engine)


def scored(stored: StoredModel, source: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows of a file with what score-files adds for a model."""
    planned = plan(str(source), str(out), stored, **options)
    run(planned, Threads(open_engine(stored, ModelSettings()), threads=1))
    return csv_text(out) if planned.job.target_format == "csv" else read(out)


def csv_text(path: Path) -> list[dict[str, Any]]:
    import csv

    with (path / "part-00000.csv").open(newline="", encoding="utf-8") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


FLATS = [("Bern", 10.5, 2), ("007", 5, 0), ("Paris", 1, -1)]


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_a_table_of_strings_and_numbers_by_name_in_any_order(tmp_path: Path, format_: str) -> None:
    stored = example_models.flats(tmp_path)
    source = tmp_path / f"rows.{format_}"
    if format_ == "csv":
        source.write_text(
            "Rooms,note,CITY,area\n2,,Bern,10.5\n0,x,007,5\n-1,,Paris,1\n1.5,,Bern,1\n2,,Bern,big\n,,Bern,1\n"
        )
    else:
        columns = {
            "Rooms": [2.0, 0.0, -1.0, 1.5, 2.0, None],
            "note": [None] * 6,
            "CITY": pa.array(["Bern", "007", "Paris", "Bern", "Bern", "Bern"]).dictionary_encode(),
            "area": ["10.5", "5", "1", "1", "big", "1"],
        }
        write(source, columns)
    rows = scored(stored, source, tmp_path / "out")
    assert [(row["error"] or "").partition(";")[0].partition(": write")[0] for row in rows] == [
        "", "", "", "Rooms: '1.5' is not a whole number", "area: 'big' is not a number", "Rooms: the value is missing"
    ]  # fmt: skip
    found = [json.loads(row["probabilities"]) if format_ == "csv" else row["probabilities"] for row in rows[:3]]
    np.testing.assert_allclose(found, [example_models.flats_expected(*row) for row in FLATS], rtol=1e-5)
    assert [row["label"] for row in rows] == ["dear", "dear", "cheap", None, None, None]
    assert {row["model_tag"] for row in rows} == {"flats:1"}


def test_columns_of_another_type_are_explained(tmp_path: Path) -> None:
    stored = example_models.flats(tmp_path)
    source = write(
        tmp_path / "rows.parquet",
        {
            "city": [1, 2, None],
            "area": pa.array([1e300, 1, 1], pa.float64()),
            "rooms": pa.array([2**63, 1, 1], pa.uint64()),
        },
    )
    rows = scored(stored, source, tmp_path / "out")
    assert [row["error"] for row in rows] == [
        "area: '1e+300' is too large for float32", None, "city: the value is missing; the model takes string"
    ]  # fmt: skip
    write(source, {"city": [1.5, 7.0], "area": [1.0, 1.0], "rooms": [1, 1]})
    assert [row["error"] for row in scored(stored, source, tmp_path / "out2")] == [
        "city: the value is of type float; the model takes string"
    ] * 2
    write(source, {"city": ["x"], "area": [1.0], "rooms": pa.array([2**63], pa.uint64())})
    assert [row["error"] for row in scored(stored, source, tmp_path / "out3")] == [
        f"rooms: '{2**63}' is not within {-(2**63)} to {2**63 - 1}, as int64 is"
    ]


def test_whole_numbers_are_exact(tmp_path: Path) -> None:
    """Beyond 2⁵³ a float would change them."""
    spec, node = example_models.spec, example_models.node
    inputs, outputs = [spec("n", "int64", None), spec("yes", "bool", None)], [spec("m", "int64", None)]
    nodes = [node("Where", ["yes", "n", "zero"], ["m"])]
    stored = example_models.stored(
        tmp_path, "whole", nodes, inputs, outputs, {"zero": np.int64(0)}, kind="rows", task="raw"
    )
    numbers = [2**53 + 1, 2**63 - 1, -(2**63), 7]
    answers = {"yes": [True, True, True, False], "n": numbers}
    found = scored(stored, write(tmp_path / "a.parquet", answers), tmp_path / "out")
    assert [row["m"] for row in found] == [*numbers[:3], 0]
    (tmp_path / "a.csv").write_text("yes,n\n" + "".join(f"{yes},{n}\n" for yes, n in zip(
        ["true", "1", "TRUE", "false"], numbers, strict=True)) + "2,1\n")  # fmt: skip
    found = scored(stored, tmp_path / "a.csv", tmp_path / "out2")
    assert [row["m"] for row in found] == [*map(str, numbers[:3]), "0", None]
    assert found[-1]["error"] == "yes: '2' is neither true nor false"


REGRESSION = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 1e-9], [0.0, 0.0, 1e300]])


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_a_regression_adds_its_numbers(tmp_path: Path, outputs: int, format_: str) -> None:
    stored = example_models.regressor(tmp_path, outputs=outputs)
    last = {"a": 1.0, "b": 1.0, "c": None}
    content = {name: [*REGRESSION[:, index].tolist(), last[name]] for index, name in enumerate(last)}
    source = write(tmp_path / "rows.parquet", content)
    rows = scored(stored, source, tmp_path / "out", target_format=format_)
    assert list(rows[0]) == ["a", "b", "c", "prediction", "model_tag", "error"]
    expected = REGRESSION @ example_models.WEIGHTS[:, :outputs]
    found = [row["prediction"] for row in rows]
    if format_ == "csv":
        found = [None if text is None else json.loads(text) for text in found]
    assert found == [*(expected[:, 0] if outputs == 1 else expected).tolist(), None]
    assert [row["error"] for row in rows] == [None, None, None, "c: the value is missing; the model takes float64"]


def test_a_missing_number_is_a_value_where_the_model_takes_it(tmp_path: Path) -> None:
    stored = example_models.regressor(tmp_path, allow_nan=True)
    source = tmp_path / "rows.csv"
    source.write_text("a,b,c\n1,2,3\n,2,3\nNaN,2,3\ninf,2,3\nx,2,3\n")
    rows = scored(stored, source, tmp_path / "out", target_format="parquet")
    assert [(row["error"] or "")[:22] for row in rows] == [
        "",
        "",
        "",
        "a: 'inf' is not a numb",
        "a: 'x' is not a number",
    ]
    assert rows[0]["prediction"] == -0.75
    assert np.isnan([row["prediction"] for row in rows[1:3]]).all()


def test_a_model_without_a_task_adds_its_outputs(tmp_path: Path) -> None:
    spec, node = example_models.spec, example_models.node
    nodes = [
        node("Identity", ["x"], ["same"]),
        node("Unsqueeze", ["x", "axis"], ["deep"]),
        node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0),
    ]
    outputs = [spec("same", "float32", None, 2), spec("deep", "float32", None, 1, 2), spec("sum", "float32", None)]
    stored = example_models.stored(
        tmp_path, "raw", nodes, [spec("x", "float32", None, 2)], outputs, {"axis": np.array([1])},
        kind="rows", task="raw",
    )  # fmt: skip
    source = write(tmp_path / "rows.parquet", {"x_0": [1.0, None, 3e38], "x_1": [2.0, 2.0, 3e38]})
    rows = scored(stored, source, tmp_path / "out")
    added = {"same": [1.0, 2.0], "deep": [[1.0, 2.0]], "sum": 3.0, "model_tag": "raw:1", "error": None}
    assert rows[0] == {"x_0": 1.0, "x_1": 2.0} | added
    assert [row["error"] for row in rows] == [
        None, "x_0: the value is missing; the model takes float32", NOT_FINITE
    ]  # fmt: skip
    assert [row["deep"] for row in rows[1:]] == [None, None]
    text = scored(stored, source, tmp_path / "text", target_format="csv")
    assert [row["deep"] for row in text] == ["[[1.0,2.0]]", None, None]


def test_large_outputs_whose_sum_is_not_finite_are_right(tmp_path: Path) -> None:
    spec, node = example_models.spec, example_models.node
    stored = example_models.stored(
        tmp_path, "same", [node("Identity", ["x"], ["y"])], [spec("x", "float32", None, 2)],
        [spec("y", "float32", None, 2)], kind="rows", task="regression", scores="y",
    )  # fmt: skip
    source = write(tmp_path / "rows.parquet", {"x_0": [3e38, 1.0], "x_1": [3e38, 1.0]})
    rows = scored(stored, source, tmp_path / "out")
    assert [row["error"] for row in rows] == [None, None]
    assert rows[0]["prediction"] == pytest.approx([3e38, 3e38], rel=1e-6)


def test_several_classes_may_be_right(tmp_path: Path) -> None:
    spec, node = example_models.spec, example_models.node
    stored = example_models.stored(
        tmp_path, "tags", [node("Identity", ["x"], ["scores"])], [spec("x", "float32", None, 2)],
        [spec("scores", "float32", None, 2)], kind="rows", task="classification", scores="scores",
        activation="sigmoid", labels=["new", "old"], multilabel=True,
    )  # fmt: skip
    source = write(tmp_path / "rows.parquet", {"x_0": [1.0, -1.0, None, 2.0], "x_1": [1.0, -2.0, 1.0, -1.0]})
    assert [row["label"] for row in scored(stored, source, tmp_path / "out")] == [["new", "old"], [], None, ["new"]]
    rows = scored(stored, source, tmp_path / "text", target_format="csv")
    assert [row["label"] for row in rows] == ['["new","old"]', "[]", None, '["new"]']


def test_a_graph_of_one_row_at_a_time_and_one_that_refuses_rows(tmp_path: Path) -> None:
    stored = example_models.single(tmp_path)
    source = write(tmp_path / "rows.parquet", {"a": [1.0, 200.0, 2.0, None], "b": [2.0, 1.0, 1.0, 1.0], "c": [3.0] * 4})
    assert [row["prediction"] for row in scored(stored, source, tmp_path / "out")][::2] == [-0.75, 0.75]

    class Refusing(Counting):
        def _call(self, tensors: Tensors) -> Tensors:
            if tensors["X"].max() > 100:
                raise InvalidInputError("not in the table")
            return super()._call(tensors)

    for number, make in enumerate((example_models.single, example_models.regressor)):
        stored = make(tmp_path)
        planned = plan(str(source), str(tmp_path / f"refused{number}"), stored)
        run(planned, Threads(Refusing(open_engine(stored, ModelSettings())), threads=1))
        rows = read(tmp_path / f"refused{number}")
        dtype = stored.metadata.inputs[0].dtype
        assert [row["error"] for row in rows] == [
            None, "the model cannot compute these values", None, f"a: the value is missing; the model takes {dtype}"
        ]  # fmt: skip
        assert [row["prediction"] for row in rows] == [-0.75, None, 0.75, None]


def test_the_model_is_named_or_the_only_one_of_rows(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "rows.parquet", table(10))
    for arguments, message in (
        (["--model", "oracle"], "there is no model 'oracle'; served: iris, inception_v3"),
        (["--model", "inception_v3"], "is a model of image; score-files is for models of rows"),
    ):
        status, _, errors = command(source, tmp_path / "out", *arguments)
        assert (status != 0, message in errors) == (True, True), errors
    monkeypatch.setenv("SERVING__DEFAULT_MODEL", "")
    get_settings.cache_clear()
    assert command(source, tmp_path / "out")[1]["model_tag"].startswith("iris:"), "the only model of rows"
    monkeypatch.setenv("SERVING__MODELS__IRIS__ENABLED", "false")
    get_settings.cache_clear()
    status, _, errors = command(source, tmp_path / "none")
    assert (status, "name a model of rows with --model: there is none" in errors) == (1, True), errors
    monkeypatch.setenv("SERVING__MODELS__IRIS", '{"plugin": "plugins.mine:Mine"}')
    monkeypatch.delenv("SERVING__MODELS__IRIS__ENABLED")
    get_settings.cache_clear()
    status, _, errors = command(source, tmp_path / "none", "--model", "iris")
    assert (status, "plugins.mine:Mine, which score-files does not call" in errors) == (1, True), errors
    get_settings.cache_clear()


def killed(out: Path, arguments: list[str]) -> bool:
    """Run the command and SIGKILL it when it has done some parts; whether that was before its end."""
    command = [sys.executable, "-m", "serving", "batch", "score-files", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(out.glob("_committed/*.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
    return process.returncode == -signal.SIGKILL


def test_a_killed_run_is_gone_on_with(command: Command, engine: Scored, tmp_path: Path) -> None:
    content = table(300_000)
    source = write(tmp_path / "rows.parquet", content, row_group_size=1000)
    for attempt in range(5):
        out = tmp_path / f"out{attempt}"
        arguments = [str(source), str(out), "--part-rows", "1000", "--threads", "1"]
        if killed(out, arguments):
            break
    kept = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    committed = len(list(out.glob("_committed/*.json")))
    assert 3 <= committed < 300
    status, summary, _ = command(*arguments)
    assert (status, summary["rows"], summary["parts"], summary["parts_done_before"]) == (0, 300_000, 300, committed)
    # one that was written but not committed is written again
    assert sum(path.stat().st_mtime_ns == changed for path, changed in kept.items()) >= committed
    written = pyarrow.dataset.dataset(str(out)).to_table()
    assert written.select(content.column_names).equals(content)
    probabilities = np.stack(written["probabilities"].to_numpy())
    np.testing.assert_allclose(probabilities, engine.predict(features(300_000).astype(np.float32)), rtol=0, atol=1e-6)
    assert not (out / "_temporary").exists()
    status, summary, _ = command(*arguments)
    assert (status, summary["rows"], summary["parts_done_before"], summary["rows_per_second"]) == (0, 300_000, 300, 0)


def test_a_part_that_is_damaged_leaves_the_others_done(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", table(2000))
    damaged = write(tmp_path / "in" / "b.parquet", table(2000))
    content = bytearray(damaged.read_bytes())
    content[20:2000] = b"\xff" * 1980
    damaged.write_bytes(content)
    status, _, errors = command(tmp_path / "in", tmp_path / "out", "--threads", 1)
    assert (status, errors.count("\n")) == (1, 1)
    assert "b.parquet" in errors
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == ["part-00000.parquet"]
    assert list((tmp_path / "out" / "_temporary").iterdir()) == []
    # the same size and time: it is taken for the same file
    changed = damaged.stat().st_mtime_ns
    write(damaged, table(2000))
    os.utime(damaged, ns=(changed, changed))
    assert damaged.stat().st_size == len(content)
    assert command(tmp_path / "in", tmp_path / "out")[1]["parts_done_before"] == 1


def test_what_has_changed_is_not_gone_on_with(command: Command, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", table(10))
    assert command(source, tmp_path / "out")[0] == 0
    for arguments, meaning in ((["--format", "csv"], "format"), (["--columns", ",".join(COLUMNS[::-1])], "columns")):
        status, _, errors = command(source, tmp_path / "out", *arguments)
        assert (status, f"begun with another {meaning}" in errors) == (1, True), errors
    write(source, table(10, seed=1))
    status, _, errors = command(source, tmp_path / "out")
    assert (status, "begun with another input" in errors) == (1, True)

    manifest = tmp_path / "out" / "_manifest.json"
    pinned = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(pinned | {"model_tag": "iris:older"}))
    status, _, errors = command(source, tmp_path / "out")
    assert (status, "begun with another model (iris:older, not iris:" in errors) == (1, True)
    manifest.write_text("{")
    assert command(source, tmp_path / "out")[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows.txt": b"1"}, "the name has to end in .csv, .tsv, .jsonl"),
        ({"a.txt": b"1", "b.xlsx": b"1"}, "there is no file of rows"),
        ({}, "no such file"),
        ({"a.csv": b"id\n", "b.parquet": b"PAR1"}, "there are files of csv and parquet"),
        ({"a.parquet": b"PAR1 no"}, "not a Parquet file"),
        ({"a.csv": b""}, "the file is empty"),
        ({"a.csv": b"\xff\xfe\n"}, "not in utf-16-le"),
        ({"a.csv": b"a,b,c\n"}, "no column sepal length (cm)"),
        ({"a.csv": b"label,sepal_length,sepal_width,petal_length,petal_width\n"}, "a column label already"),
        (
            {"a.csv": b"sepal_length,sepal_width,petal_length,petal_width,petal_width\n"},
            "several columns may be petal width (cm): petal_width, petal_width",
        ),
        (
            {"a.csv": b'note,sepal_length,sepal_width,petal_length,petal_width\n"a,1,1,1,1\n'},
            "line 2: a quoted value that begins here has no end",
        ),
        ({"a.csv": b"note,sepal_length,sepal_width,petal_length,petal_width\n\xff,1,1,1,1\n"}, "not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_scored_is_told_in_a_line(
    content: dict[str, bytes], message: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, data in content.items():
        (tmp_path / "in" / name).write_bytes(data)
    status, _, errors = command(tmp_path / "in", tmp_path / "out")
    assert (status, errors.count("\n")) == (1, 1), errors
    assert message in errors


def test_an_output_that_would_be_mixed_up_is_refused(command: Command, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "rows.parquet", table(10))
    for target in (tmp_path / "in", tmp_path / "in" / "out", source):
        status, _, errors = command(tmp_path / "in" if target != source else source, target)
        assert (status, "OUTPUT lies in INPUT" in errors) == (1, True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    status, _, errors = command(source, tmp_path / "mine")
    assert (status, "files of something else" in errors) == (1, True)


def test_nested_columns_are_no_csv(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", table(2).append_column("tags", pa.array([["a"], ["b"]])))
    status, _, errors = command(tmp_path / "rows.parquet", tmp_path / "out", "--format", "csv")
    assert (status, "use --format parquet" in errors) == (1, True)


@pytest.mark.parametrize(
    "url", ["nosuch://bucket/rows", "file:///nowhere/rows.parquet", "http://127.0.0.1:9/rows.parquet"]
)
def test_an_input_that_is_not_there_is_one_line(command: Command, tmp_path: Path, url: str) -> None:
    status, _, errors = command(url, tmp_path / "out")
    assert (status, errors.count("\n")) == (1, 1), errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["pyarrow", "ray"])
def test_a_missing_extra_is_named(
    missing: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "rows.parquet", table(2))
    for name in [name for name in sys.modules if name.startswith("serving.batch.files")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    more = ["--ray", "auto"] if missing == "ray" else []
    status, _, errors = command(tmp_path / "rows.parquet", tmp_path / "out", *more)
    assert status == 1
    assert "model-serving[files" in errors


def test_nothing_else_needs_the_extras_to_be_imported() -> None:
    """What stands at the top of a module is there whenever it is."""
    needing = []
    for module in sorted((ROOT / "serving").rglob("*.py")):
        for node in ast.parse(module.read_text()).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(
                name.startswith(("pyarrow", "ray", "serving.batch.files", "serving.batch.reading.parquet"))
                for name in names
            ):
                needing.append(module.relative_to(ROOT).as_posix())
    assert needing
    others = {name for name in needing if not name.startswith("serving/batch/files/")}
    assert others == {"serving/batch/reading/parquet.py"}
