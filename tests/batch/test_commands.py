"""`serving batch …` in this process, on SQLite, and what loading and exporting do on every database."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.batch.database import Database
from serving.batch.exporting import COLUMNS, export
from serving.batch.loading import load
from serving.batch.reading.lines import Line
from serving.batch.schedule import run_every
from serving.batch.scope import Scope
from serving.batch.state import items_by_model
from serving.batch.tables import Item
from serving.cli import main
from serving.core.errors import ConfigurationError
from serving.settings import get_settings
from tests import example_models
from tests.batch.rows import fill, rows, score

Run = Callable[..., tuple[int, Any, str]]
SETOSA = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database of the settings: a SQLite file that is not there yet."""
    url = f"sqlite:///{tmp_path}/rows.db"
    monkeypatch.setenv("SERVING__BATCH__DATABASE_URL", url)
    get_settings.cache_clear()
    yield url
    get_settings.cache_clear()


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str]) -> Run:  # noqa: ARG001 - the commands read it
    """`serving batch …`: exit status, the JSON line of standard output, and standard error."""

    def call(*arguments: str) -> tuple[int, Any, str]:
        status = main(["batch", *arguments])
        output, errors = capsys.readouterr()
        return status, json.loads(output) if output else None, errors

    return call


def test_from_a_file_to_predictions_and_back(model_store: Path, run: Run, tmp_path: Path) -> None:  # noqa: ARG001
    file = tmp_path / "rows.csv"
    file.write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n1,2,3\n")
    assert run("init") == (0, {"before": None, "after": "0002"}, "")
    rejected = tmp_path / "rows.csv.rejected"
    error = "3 values, and there are 4 columns"
    found = {"loaded": 2, "rejected": 1, "rejects": str(rejected), "skipped": []}
    assert run("load", str(file)) == (3, found, f"{file}, line 4: {error}\n")
    assert json.loads(rejected.read_text()) == {"file": str(file), "line": 4, "error": error, "text": "1,2,3"}
    status, summary, _ = run("score")
    assert status == 0
    assert (summary["run"], summary["outcome"], summary["claimed"], summary["succeeded"]) == (1, "done", 2, 2)
    status, found, _ = run("status")
    assert found["items"] == {"iris": {"unpredicted": 0, "predicted": 2, "failed": 0}}
    assert found["runs"][0]["outcome"] == "done"
    exported = tmp_path / "out.jsonl"
    assert run("export", str(exported))[:2] == (0, {"exported": 2})
    first, second = map(json.loads, exported.read_text().splitlines())
    assert list(first) == list(COLUMNS)
    assert (first["values"], first["label"], second["label"]) == (SETOSA, "setosa", "virginica")
    assert first["model_tag"].startswith("iris:")
    assert sum(first["prediction"]) == pytest.approx(1)


@pytest.fixture
def flats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with a string, a number and a whole number as columns, as the only one."""
    stored = example_models.flats(tmp_path)
    configuration = tmp_path / "configuration.yaml"
    configuration.write_text("models: {flats: {}}")
    monkeypatch.setenv("SERVING_CONFIGURATION", str(configuration))
    monkeypatch.setattr("serving.batch.checks.open_model", lambda tag: {"flats:latest": stored}[tag])
    get_settings.cache_clear()


@pytest.mark.usefixtures("flats")
def test_a_table_of_strings_and_numbers_goes_by_the_names_of_its_columns(run: Run, tmp_path: Path) -> None:
    csv_file, parquet, lines = tmp_path / "a.csv", tmp_path / "a.parquet", tmp_path / "a.jsonl"
    csv_file.write_text("id,Rooms,city,area\n1,2,Bern,10.5\n2,x,Bern,10\n3,0,007,5\n4,1.5,Paris,1\n")
    pq.write_table(pa.table({"rooms": [2, 0], "city": ["Bern", "007"], "area": [10.5, 5], "note": ["a", "b"]}), parquet)
    lines.write_text('["Bern",10.5,2]\n{"model":"flats","values":{"rooms":0,"area":5,"city":"007"}}\n')
    run("init")
    assert run("load", str(csv_file), "--model", "flats")[:2] == (
        3, {"loaded": 2, "rejected": 2, "rejects": f"{csv_file}.rejected", "skipped": []}
    )  # fmt: skip
    rejected = [json.loads(line) for line in Path(f"{csv_file}.rejected").read_text().splitlines()]
    assert [(each["line"], each["error"].partition(":")[0]) for each in rejected] == [(3, "Rooms"), (5, "Rooms")]
    assert run("load", str(parquet), "--model", "flats")[1]["loaded"] == 2
    # The first line names no model, and there is no default_model.
    assert run("load", str(lines))[1]["rejected"] == 1
    assert json.loads(Path(f"{lines}.rejected").read_text())["error"] == "the row names no model; served: flats"

    assert run("score")[1]["succeeded"] == 5
    exported = tmp_path / "out.jsonl"
    run("export", str(exported))
    found = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [each["label"] for each in found] == ["dear"] * 5
    bern, other = (example_models.flats_expected(*row) for row in (("Bern", 10.5, 2), ("007", 5, 0)))
    np.testing.assert_allclose([each["prediction"] for each in found], [bern, other, bern, other, other], rtol=1e-5)


@pytest.mark.usefixtures("flats")
def test_a_model_that_is_not_served_is_named_with_those_that_are(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n")
    run("init")
    status, _, errors = run("load", str(tmp_path / "a.csv"), "--model", "iris")
    assert (status, "there is no model 'iris'; served: flats" in errors) == (2, True)
    fill(Database(url), 1, model="iris", values=SETOSA)
    assert run("score")[0] == 3
    assert rows(Database(url), Item.error) == ["there is no such model; served: flats"]


def test_failed_rows_are_a_status_of_their_own(model_store: Path, run: Run, url: str) -> None:  # noqa: ARG001
    run("init")
    database = Database(url)
    for values in (SETOSA, [1, 2], None, {"a": 1}, [1e39, 1, 1, 1], [1, 2, 3, "x"]):
        fill(database, 1, model="iris", values=values)
    assert run("score")[0] == 3
    states = rows(database, Item.status, Item.error)
    assert [state for state, _ in states] == ["predicted"] + ["failed"] * 5
    assert all("list of 4 finite numbers" in error for _, error in states[1:])
    assert run("score", "--on-failure", "leave")[0] == 0
    assert run("retry")[1] == {"retried": 5}
    assert run("score", "--where-id", "..3", "--limit", "1")[1]["claimed"] == 1


def test_the_deadline_is_a_status_of_its_own(run: Run, url: str) -> None:
    run("init")
    fill(Database(url), 1, model="iris", values=SETOSA)
    status, summary, _ = run("score", "--deadline", "2020-01-01T12:00+01:00")
    assert (status, summary["outcome"], summary["remaining"]) == (124, "deadline", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "--where-id", "1-2"),
        ("score", "--where-id", ".."),
        ("score", "--since", "yesterday"),
        ("score", "--every", "1 hour"),
        ("score", "--every", "0s"),
        ("score", "--limit", "0"),
        ("score", "--every", "1h", "--deadline", "2030-01-01"),
        ("load", "no-such-file.csv"),
    ],
    ids=" ".join,
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    status, output, errors = run(*arguments)
    assert (status, output) == (2, None)
    assert errors.count("\n") == 1


def test_without_tables_the_command_that_makes_them_is_named(run: Run) -> None:
    status, _, errors = run("score")
    assert status == 1
    assert "serving batch init" in errors


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://u:secret@host/x", "is not known"),
        ("postgresql://u:secret@127.0.0.1:1/x", "the database"),
        ("mysql://u:secret@127.0.0.1:1/x", "the database"),
        ("postgresql://u:secret@127.0.0.1", "name of the database"),
        ("secret", "not a URL"),
        ("sqlite://", "name of a file"),
        ("sqlite:////no/such/directory/x.db", "no directory"),
        (f"sqlite:///{__file__}", "this is not a file of SQLite"),
        ("mysql://u:secret@127.0.0.1:1/x?ssl_ca=/no/ca.pem", "ssl-ca: there is no file /no/ca.pem"),
        ("postgresql://u:secret@127.0.0.1:1/x?sslmod=require", "'sslmod' is no parameter of postgresql://; known:"),
    ],
    ids=[
        *("unknown", "postgres-away", "mysql-away", "no-name", "no-url", "memory", "no-directory", "no-database"),
        *("no-file", "no-parameter"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("SERVING__BATCH__DATABASE_URL", url)
    get_settings.cache_clear()
    status, _, errors = run("init")
    assert status == 1
    assert message in errors
    assert ":secret" not in errors
    assert errors.count("\n") == 1


def test_a_file_is_loaded_as_a_whole_or_not_at_all(database: Database, tmp_path: Path) -> None:
    def check(model: str, values: str) -> str | None:
        return None if model == "iris" and values.startswith("[") else "not a list"

    def lines(*, torn: bool) -> Iterator[Line]:
        yield from (Line("a", number, None, json.dumps([number, 1, 1, 1])) for number in range(10_001))
        yield Line("a", 10_002, "iris", "it's bad \\ \t 100%")
        if torn:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        load(database, lines(torn=True), model="iris", check=check, rejects=tmp_path / "a")
    assert items_by_model(database) == {}
    done = load(database, lines(torn=False), model="iris", check=check, rejects=tmp_path / "b")
    assert (done.loaded, done.rejected) == (10_001, 1)
    assert items_by_model(database)["iris"]["unpredicted"] == 10_001
    assert json.loads((tmp_path / "b").read_text())["line"] == 10_002
    with pytest.raises(ConfigurationError, match="exists"):
        load(database, lines(torn=False), model="iris", check=check, rejects=tmp_path / "b")


def test_every_format_has_the_same_rows(database: Database, tmp_path: Path) -> None:
    fill(database, 3)
    fill(database, 1, values="bad")
    score(database)
    export(database, tmp_path / "a.jsonl", "jsonl", scope=Scope(), status=None)
    export(database, tmp_path / "a.csv", "csv", scope=Scope(), status=None)
    export(database, tmp_path / "a.parquet", "parquet", scope=Scope(), status=None)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    table = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    records = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [line["id"] for line in lines] == [1, 2, 3, 4]
    for line, fields, record in zip(lines, table, records, strict=True):
        assert line["values"] == json.loads(fields["values"]) == json.loads(record["values"])
        assert str(line["id"]) == fields["id"] == str(record["id"])
        assert (line["label"] or "") == fields["label"] == (record["label"] or "")
        assert (line["error"] or "") == fields["error"] == (record["error"] or "")
    assert lines[1]["prediction"] == {"sum": 1}
    assert lines[3]["prediction"] is None
    assert sorted(tmp_path.glob(".a*")) == []
    assert export(database, tmp_path / "b.csv", "csv", scope=Scope(last_id=2), status=None) == 2


def test_a_terminal_sees_a_bar_and_a_sentence(model_store: Path, run: Run, url: str) -> None:  # noqa: ARG001
    run("init")
    fill(Database(url), 30, model="iris", values=SETOSA)
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "serving", "batch", "score", "--chunk-rows", "10"]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, stdin=follower, env=environment)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(leader)
    assert process.wait(60) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "30/30" in plain
    assert "rows/s" in plain
    assert "run 1: done, 30 rows predicted" in plain
    assert "{" not in plain


def test_sigterm_ends_a_schedule_and_the_next_run_finds_nothing(
    model_store: Path,  # noqa: ARG001
    run: Run,
    url: str,
) -> None:
    run("init")
    fill(Database(url), 5, model="iris", values=SETOSA)
    command = [sys.executable, "-m", "serving", "batch", "score", "--every", "1s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    summaries = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(60) == 0, rest
    process.stdout.close()
    assert [summary["succeeded"] for summary in summaries] == [5, 0]


def test_a_beat_during_a_run_is_skipped() -> None:
    events: list[str] = []

    def work() -> None:
        events.append("begin")
        deadline = time.monotonic() + 30
        while "skipped" not in events and time.monotonic() < deadline:
            time.sleep(0.01)
        events.append("end")
        if events.count("end") == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    run_every(0.2, work, stop=lambda: events.append("stop"), skipped=lambda: events.append("skipped"))
    runs = [event for event in events if event in ("begin", "end")]
    assert runs == ["begin", "end"] * (len(runs) // 2), "runs do not overlap"
    assert "skipped" in events
    assert "stop" in events
