"""Files of rows of kinds that users of model servers have reported as failing, by both commands that read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.cli import main
from serving.settings import get_settings

FILES = Path(__file__).parent / "files"
SETOSA = 0.9745
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(
    tmp_path: Path,
    model_store: Path,  # noqa: ARG001 - it has to be filled
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """`serving batch …`: exit status, the JSON line of standard output, and standard error."""
    monkeypatch.setenv("SERVING__BATCH__DATABASE_URL", f"sqlite:///{tmp_path}/rows.db")
    get_settings.cache_clear()

    def call(*arguments: object) -> tuple[int, dict[str, Any], str]:
        status = main(["batch", *map(str, arguments)])
        output, errors = capsys.readouterr()
        return status, json.loads(output) if output else {}, errors

    call("init")
    yield call
    get_settings.cache_clear()


def by_database(run: Run, name: str, tmp_path: Path, *options: str) -> tuple[int, Any, str]:
    """Exit status, label and probability of the one row, and what is said of the file."""
    status, _, errors = run("load", FILES / name, "--rejects", tmp_path / "rejects", *options)
    run("score")
    run("export", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    return status, [(row["label"], max(row["prediction"])) for row in rows], errors


def by_files(run: Run, name: str, tmp_path: Path, *options: str) -> tuple[int, Any, str]:
    status, _, errors = run("score-files", FILES / name, tmp_path / "out", "--format", "parquet", *options)
    parts = sorted((tmp_path / "out").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist() if row["error"] is None]
    return status, [(row["label"], max(row["probabilities"])) for row in rows], errors


@pytest.mark.parametrize("way", [by_database, by_files])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("columns_reordered.csv", ()),
        ("index_column.csv", ()),
        ("semicolons.csv", ("--delimiter", ";", "--decimal", ",")),
        ("rows.csv.gz", ()),
    ],
)
def test_a_row_is_predicted(run: Run, way: Any, name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    status, found, errors = way(run, name, tmp_path, *options)
    assert (status, errors) == (0, "")
    assert found == [("setosa", pytest.approx(SETOSA, abs=5e-5))]


@pytest.mark.parametrize("way", [by_database, by_files])
@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("underscores.csv", 3, "underscores.csv, line 1: sepal length (cm) (column 1): '5_1' is not a number"),
        ("semicolons.csv", 1, "semicolons.csv: it looks as if semicolons separate the values and numbers have decimal"),
        ("delta_table", 1, "delta_table is a Delta table, whose files also have rows that were removed or replaced"),
    ],
)
def test_a_row_is_refused_with_what_to_do(
    run: Run, way: Any, name: str, status: int, message: str, tmp_path: Path
) -> None:
    found, rows, errors = way(run, name, tmp_path)
    assert (found, rows) == (status, [])
    assert message in errors
    assert errors.count("\n") == 1


def test_the_first_bad_lines_are_shown_and_the_others_counted(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    lines = ["sepal_length,sepal_width,petal_length,petal_width", *["x,1,1,1"] * 25, "5.1,3.5,1.4,0.2"]
    file.write_text("\n".join(lines))
    shown = [f"{file}, line {number}: sepal_length: 'x' is not a number" for number in range(2, 22)]
    for status, _, errors in (run("load", file), run("score-files", file, tmp_path / "out")):
        assert status == 3
        assert [line.partition(": write")[0] for line in errors.splitlines()] == [*shown, "and 5 more"]


def test_a_directory_names_what_it_skips(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "in"
    (directory / "year=2024").mkdir(parents=True)
    for name, source in (("year=2024/a.csv", "columns_reordered.csv"), ("b.csv.gz", "rows.csv.gz")):
        (directory / name).write_bytes((FILES / source).read_bytes())
    for name in ("notes.xlsx", "_SUCCESS", ".a.csv.crc"):
        (directory / name).write_bytes(b"1")
    status, summary, _ = run("load", directory)
    assert (status, summary["loaded"], summary["skipped"]) == (0, 2, ["notes.xlsx"])
    (directory / "year=2024" / "a.csv").write_bytes((FILES / "rows.csv.gz").read_bytes())
    status, summary, _ = run("score-files", directory, tmp_path / "out")
    assert (status, summary["rows"], summary["skipped"]) == (0, 2, ["notes.xlsx"])
    assert sorted(path.name for path in (tmp_path / "out").rglob("part-*")) == ["part-00000.csv", "part-00001.csv"]


@pytest.mark.parametrize("command", ["load", "score-files"])
@pytest.mark.parametrize(
    ("options", "message"),
    [(("--delimiter", ";;"), "is not one sign"), (("--encoding", "klingon"), "no encoding"), (("--decimal", "x"), "x")],
)
def test_options_that_make_no_sense_are_wrong_usage(
    run: Run, command: str, options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    target = [tmp_path / "out"] if command == "score-files" else []
    status, _, errors = run(command, FILES / "semicolons.csv", *target, *options)
    assert status == 2
    assert message in errors
