"""`serving batch score-files`: what it writes, which rows fail, and how it goes on after it was killed."""

from __future__ import annotations

import ast
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
from serving.engines import IrisEngine
from serving.store.models import open_model
from tests.batch.files import COLUMNS, Command, features, read, table, write
from tests.server import ROOT

LABELS = ("setosa", "versicolor", "virginica")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], model_store: Path) -> Command:  # noqa: ARG001 - it has to be filled
    return Command(capsys)


@pytest.fixture(scope="module")
def engine(model_store: Path) -> IrisEngine:  # noqa: ARG001
    return IrisEngine(open_model("iris:latest"))


def check(rows: list[dict[str, Any]], engine: IrisEngine) -> None:
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


def test_rows_keep_their_columns_and_get_results(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
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


def test_one_engine_call_for_a_batch(engine: IrisEngine, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", table(1000), row_group_size=10)
    calls: list[int] = []

    class Counting:
        def predict(self, rows: Any) -> Any:
            calls.append(len(rows))
            return engine.predict(rows)

    planned = plan(str(tmp_path / "rows.parquet"), str(tmp_path / "out"), engine.model, batch_rows=400)
    told: list[tuple[int, int]] = []
    run(planned, Threads(Counting(), threads=1), tell=lambda good, bad: told.append((good, bad)))
    assert calls == [400, 400, 200]
    assert told == [(400, 0), (400, 0), (200, 0)]


BAD: dict[str, Any] = {
    "sepal_length": [5.1, None, float("nan"), float("inf"), 1e300, 5.1, 5.1, 3e38],
    "sepal_width": ["3.5", "3.5", "3.5", "3.5", "3.5", "three", " 3.5 ", "3.5"],
    "petal_length": pa.array([1, 1, 1, 1, 1, None, 1, 1], pa.int16()),
    "petal_width": pa.array([True] * 8).cast(pa.float32()),
}
REASONS = [
    None,
    "sepal_length: the value is missing",
    "sepal_length: not a finite number",
    "sepal_length: not a finite number",
    "sepal_length: too large for a float32",
    "sepal_width: not a number",
    None,
]


def test_bad_rows_fail_alone(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", {name: values[:7] for name, values in BAD.items()})
    status, summary, errors = command(tmp_path / "rows.parquet", tmp_path / "out")
    assert (status, summary["rows"], summary["failed"], errors) == (3, 7, 5, "")
    rows = read(tmp_path / "out")
    assert [row["error"] for row in rows] == REASONS
    check(rows, engine)


def test_a_column_of_something_else_fails_every_row(command: Command, tmp_path: Path) -> None:
    days = pa.array([1, None], pa.date32())
    write(tmp_path / "rows.parquet", {name: [1.0, 1.0] for name in COLUMNS} | {"petal_width": days})
    assert command(tmp_path / "rows.parquet", tmp_path / "out")[0] == 3
    assert [row["error"] for row in read(tmp_path / "out")] == [
        "petal_width: not a number", "petal_width: the value is missing"
    ]  # fmt: skip


def test_a_row_whose_probabilities_are_not_finite_fails(engine: IrisEngine, tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", table(5))

    class Overflowing:
        def predict(self, rows: Any) -> Any:
            found = engine.predict(rows).copy()
            found[2, 1] = np.nan
            return found

    planned = plan(str(tmp_path / "rows.parquet"), str(tmp_path / "out"), engine.model)
    assert run(planned, Threads(Overflowing(), threads=1)).failed == 1
    rows = read(tmp_path / "out")
    assert [row["error"] for row in rows] == [None, None, "the values are too large for this model", None, None]
    check(rows, engine)


@pytest.mark.parametrize("kind", ["float16", "float32", "int64", "uint8", "decimal128(5, 1)", "string", "dictionary"])
def test_numbers_of_any_type_are_the_same_numbers(kind: str, engine: IrisEngine, tmp_path: Path) -> None:
    values = pa.array(features(20).round(0).ravel())
    if kind == "dictionary":
        column = values.cast("string").dictionary_encode()
    else:
        column = values.cast(pa.decimal128(5, 1) if kind.startswith("decimal") else kind)
    write(tmp_path / "rows.parquet", {name: column[index::4] for index, name in enumerate(COLUMNS)})
    planned = plan(str(tmp_path / "rows.parquet"), str(tmp_path / "out"), engine.model)
    assert run(planned, Threads(engine, threads=1)).failed == 0
    check(read(tmp_path / "out"), engine)


def test_a_directory_is_scored_below_its_directories(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
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


def test_csv_is_kept_as_it_is_written(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "\ufeffcode,Sepal.Length,sepal width,petal length (cm),PETAL_WIDTH\r\n"
        '007,5.10,3.5,1.4,0.2\r\n"a ""b"", c",6.3,3.3,6.0,2.5\r\n,,3.3,6.0,2.5\r\nx,5.1,3.5\r\ny,5.1,3.5,1.4,0.2,9\r\n'
        "z,5.1,3.5,NaN,0.2\r\n"
    )
    status, summary, errors = command(tmp_path / "rows.csv", tmp_path / "out")
    assert (status, summary["rows"], summary["failed"], errors) == (3, 6, 4, "")
    rows = csv_rows(tmp_path / "out")
    assert {row["code"]: row["error"] for row in rows} == {
        "007": None,
        'a "b", c': None,
        None: "Sepal.Length: the value is missing",
        "x": "3 columns, the header has 5",
        "y": "6 columns, the header has 5",
        "z": "petal length (cm): not a finite number",
    }
    first = rows[0]
    assert [first[name] for name in list(first)[1:5]] == ["5.10", "3.5", "1.4", "0.2"]
    expected = engine.predict(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32))[0]
    np.testing.assert_array_equal(np.array(first["probabilities"], np.float32), expected)
    assert (first["label"], first["model_tag"]) == ("setosa", engine.model.tag)


def test_csv_in_parts_is_the_same_as_in_one(command: Command, tmp_path: Path) -> None:
    lines = [f"{number}," + ",".join(map(str, row)) for number, row in enumerate(features(5000))]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(["id", *COLUMNS]), *lines]))
    assert command(tmp_path / "rows.csv", tmp_path / "one")[1]["parts"] == 1
    status, summary, _ = command(tmp_path / "rows.csv", tmp_path / "many", "--part-rows", 1000, "--batch-rows", 64)
    assert (status, summary["rows"]) == (0, 5000)
    assert summary["parts"] > 2
    assert csv_rows(tmp_path / "many") == csv_rows(tmp_path / "one")


def test_one_format_to_the_other(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
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


def test_columns_may_be_named(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
    content = table(10).rename_columns(["id", "a", "b", "c", "d"])
    write(tmp_path / "rows.parquet", content)
    status, _, errors = command(tmp_path / "rows.parquet", tmp_path / "out")
    assert status == 1
    assert "no column sepal length (cm), " in errors
    assert "--columns" in errors
    assert command(tmp_path / "rows.parquet", tmp_path / "out", "--columns", "a,b,c,d")[0] == 0
    rows = [row | {name: row["abcd"[index]] for index, name in enumerate(COLUMNS)} for row in read(tmp_path / "out")]
    check(rows, engine)


def killed(out: Path, arguments: list[str]) -> bool:
    """Run the command and SIGKILL it when it has done some parts; whether that was before its end."""
    command = [sys.executable, "-m", "serving", "batch", "score-files", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(out.glob("_committed/*.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
    return process.returncode == -signal.SIGKILL


def test_a_killed_run_is_gone_on_with(command: Command, engine: IrisEngine, tmp_path: Path) -> None:
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
        ({"rows.txt": b"1"}, "no .parquet or .csv file"),
        ({}, "no .parquet or .csv file"),
        ({"a.csv": b"id\n", "b.parquet": b""}, "there are .parquet and .csv files"),
        ({"a.parquet": b"PAR1 no"}, "not a Parquet file"),
        ({"a.csv": b""}, "the first line has to name the columns"),
        ({"a.csv": b"\xff\xfe\n"}, "not UTF-8"),
        ({"a.csv": b"a,b,c\n"}, "no column sepal length (cm)"),
        ({"a.csv": b"label,sepal_length,sepal_width,petal_length,petal_width\n"}, "a column label already"),
        ({"a.csv": b"sepal_length,sepal_width,petal_length,petal_width,petal_width\n"}, "several columns petal_width"),
        (
            {"a.csv": b'note,sepal_length,sepal_width,petal_length,petal_width\n"a\nb",1,1,1,1\n'},
            "a value has a line break",
        ),
        ({"a.csv": b"note,sepal_length,sepal_width,petal_length,petal_width\n\xff,1,1,1,1\n"}, "UTF8"),
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
            if any(name.startswith(("pyarrow", "fsspec", "ray", "serving.batch.files")) for name in names):
                needing.append(module.relative_to(ROOT).as_posix())
    assert needing
    assert [name for name in needing if not name.startswith("serving/batch/files/")] == []
