"""The batch benchmark: rows of a database in sets against one by one, and files of rows against the bare engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.batch_program import BATCH_ROWS, bare_engine, write_rows
from benchmarks.options import Options
from benchmarks.results import Section
from benchmarks.server import ROOT, ServerError
from benchmarks.table import NOTHING, Table, figure, ratio
from benchmarks.targets import Target, at_least, at_most, targets_table
from serving.batch.database import Database
from serving.batch.migrate import migrate
from tests.databases import new_database, private_server

NAME = "batch"
TITLE = "batch: rows of a database and of files"
FILES = "batch_files"
DATABASES = {"batch_sqlite": "sqlite", "batch_mariadb": "mariadb", "batch_postgresql": "postgres"}
SERVERS = (*DATABASES, FILES)
TWICE = "batch_postgresql"
"""Where two scorers run at once."""
ROWS = 1_000_000
ONE_BY_ONE_ROWS = 2_000
FILE_ROWS = 10_000_000
STEPS = ("claim", "predict", "write", "rest")
_LONGEST_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class DatabaseResult:
    """What one database did: rows per second, seconds of each step, memory in MB."""

    one_by_one: float
    score: float
    load: float
    steps: Mapping[str, float]
    peak_mb: float
    load_peak_mb: float
    two_scorers: float | None = None


@dataclass(frozen=True, slots=True)
class FilesResult:
    """Rows per second: of processor time within the engine's calls, of bare ONNX Runtime, and of the clock."""

    engine: float
    raw: float
    one_thread: float
    every_core: float
    peak_mb: float


@dataclass(slots=True)
class Results:
    databases: dict[str, DatabaseResult] = field(default_factory=dict)
    files: FilesResult | None = None
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sizes:
    rows: int
    one_by_one: int
    file_rows: int


def sizes(rows: int | None) -> Sizes:
    """Of a full run, or scaled down to `rows` rows in a database."""
    if rows is None:
        return Sizes(ROWS, ONE_BY_ONE_ROWS, FILE_ROWS)
    return Sizes(rows, max(1, min(ONE_BY_ONE_ROWS, rows // 5)), rows * 10)


def run(options: Options) -> Section:
    results = Results()
    size = sizes(options.rows)
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as directory:
        place = Path(directory)
        for name, kind in DATABASES.items():
            if not options.wants(name):
                continue
            try:
                results.databases[name] = _measure_database(name, kind, size, place, options)
            except pytest.skip.Exception as reason:
                results.left_out.append(f"`{name}` is left out: {reason}")
            except ServerError as error:
                results.failures.append(str(error))
                options.progress(f"FAILED {error}")
        if options.wants(FILES):
            try:
                results.files = _measure_files(size.file_rows, place, options)
            except ServerError as error:
                results.failures.append(str(error))
                options.progress(f"FAILED {error}")
    tables = [_databases(results), _steps(results), _files(results), targets_table(targets(results))]
    notes = [
        f"{size.rows:,} iris rows, loaded from Parquet and scored by `serving batch score` in chunks of 10,000: claim, "
        f"predict, write and commit; one by one: {size.one_by_one:,} rows of the same database, each predicted, "
        "written and committed by itself through the ORM",
        "rest: commits, begin and end of the run, loading the model",
        "PostgreSQL and MariaDB: private servers with their own defaults, durable commits; SQLite: WAL, "
        "synchronous=FULL",
        f"files: {size.file_rows:,} rows of Parquet, four float32 columns, batches of {BATCH_ROWS:,} rows; the "
        "engine's figure is of processor time within its calls, and bare ONNX Runtime's of the same batches with one "
        "thread, before and after",
        *results.left_out,
    ]
    return Section(NAME, TITLE, [table for table in tables if table.rows], notes, results.failures)


def _measure_database(name: str, kind: str, size: Sizes, place: Path, options: Options) -> DatabaseResult:
    file, few = place / "rows.parquet", place / "few.parquet"
    if not file.exists():
        write_rows(file, size.rows)
        write_rows(few, size.one_by_one)
    with _database(kind, place) as make:
        environment = _environment(make())
        _command(environment, "load", str(few))
        slow = _program(["one-by-one"], environment)
        one_by_one = slow["rows"] / slow["seconds"]
        options.progress(f"{name}: {one_by_one:,.0f} rows/s one by one")

        environment = _environment(make())
        loaded = _command(environment, "load", str(file))
        found = _program(["score"], environment)
        if found["succeeded"] != size.rows:
            raise ServerError(f"{name}: {found['succeeded']} of {size.rows} rows were scored")
        options.progress(f"{name}: {size.rows / found['seconds']:,.0f} rows/s in sets, {found['peak_mb']:.0f} MB")

        two = None
        if name == TWICE:
            environment = _environment(make())
            _command(environment, "load", str(file))
            both = _at_once(["score"], environment, 2)
            if sum(each["succeeded"] for each in both) != size.rows:
                raise ServerError(f"{name}: two scorers did {[each['succeeded'] for each in both]} rows")
            two = size.rows / max(each["seconds"] for each in both)
            options.progress(f"{name}: {two:,.0f} rows/s by two scorers")
    return DatabaseResult(
        one_by_one=one_by_one,
        score=size.rows / found["seconds"],
        load=size.rows / loaded["took"],
        steps={step: found[step] for step in STEPS},
        peak_mb=found["peak_mb"],
        load_peak_mb=loaded["peak_mb"],
        two_scorers=two,
    )


def _measure_files(rows: int, place: Path, options: Options) -> FilesResult:
    file = place / "many.parquet"
    write_rows(file, rows)
    environment = _environment("")
    raw = [bare_engine(min(rows, 2_000_000))]
    one = _command(environment, "score-files", str(file), str(place / "one"), "--threads", "1")
    options.progress(f"{FILES}: {one['rows_per_second']:,.0f} rows/s in one thread, {one['peak_mb']:.0f} MB")
    every = _command(environment, "score-files", str(file), str(place / "every"))
    options.progress(f"{FILES}: {every['rows_per_second']:,.0f} rows/s with a thread for each core")
    raw.append(bare_engine(min(rows, 2_000_000)))
    for found in (one, every):
        if (found["rows"], found["failed"]) != (rows, 0):
            raise ServerError(f"{FILES}: {found['rows']} of {rows} rows, {found['failed']} failed")
    return FilesResult(
        engine=one["rows"] / one["engine_seconds"],
        raw=sum(raw) / len(raw),
        one_thread=one["rows_per_second"],
        every_core=every["rows_per_second"],
        peak_mb=max(one["peak_mb"], every["peak_mb"]),
    )


@contextmanager
def _database(kind: str, place: Path) -> Iterator[Any]:
    """Makes new databases with tables."""
    if kind == "sqlite":
        yield lambda: f"sqlite:///{tempfile.mkdtemp(dir=place)}/batch.db"
        return
    with private_server(kind, durable=True) as server:
        yield lambda: new_database(server)


def _environment(url: str) -> dict[str, str]:
    """The settings of a process, with the tables made."""
    environment = {**os.environ, "SERVING__BATCH__DATABASE_URL": url}
    if url:
        database = Database(url)
        migrate(database)
        database.close()
    return environment


def _command(environment: Mapping[str, str], *arguments: str) -> Any:
    return _program(["command", "batch", *arguments], environment)


def _program(arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
    return _at_once(arguments, environment, 1)[0]


def _at_once(arguments: Sequence[str], environment: Mapping[str, str], count: int) -> list[Any]:
    """What so many processes print that do the same at the same time."""
    command = [sys.executable, "-m", "benchmarks.batch_program", *arguments]
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    found = []
    try:
        for process in running:
            output, errors = process.communicate(timeout=_LONGEST_SECONDS)
            if process.returncode != 0:
                raise ServerError(f"{' '.join(arguments)}: ended with {process.returncode}: {errors.strip()[-1000:]}")
            found.append(json.loads(output.splitlines()[-1]))
    finally:
        for process in running:
            process.kill()
            process.wait()
    return found


def _databases(results: Results) -> Table:
    rows = [
        [
            name,
            *(figure(found.one_by_one), figure(found.score), ratio(found.score, found.one_by_one)),
            *(
                NOTHING if found.two_scorers is None else figure(found.two_scorers),
                ratio(found.two_scorers, found.score),
            ),
            *(figure(found.load), figure(found.peak_mb), figure(found.load_peak_mb)),
        ]
        for name, found in results.databases.items()
    ]
    columns = ("database", "one by one rows/s", "in sets rows/s", "×", "two scorers rows/s", "× one", "load rows/s")
    return Table("Rows of a database", [*columns, "score MB", "load MB"], rows)


def _steps(results: Results) -> Table:
    rows = [
        [name, *(f"{found.steps[step]:.2f} ({found.steps[step] / sum(found.steps.values()):.0%})" for step in STEPS)]
        for name, found in results.databases.items()
    ]
    return Table("Where the time goes, in seconds", ["database", *STEPS], rows)


def _files(results: Results) -> Table:
    found = results.files
    rows = [
        ["bare ONNX Runtime, processor time", figure(found.raw), ratio(found.raw, found.raw)],
        ["score-files, processor time of the engine", figure(found.engine), ratio(found.engine, found.raw)],
        ["score-files, one thread, reading and writing included", figure(found.one_thread),
         ratio(found.one_thread, found.raw)],
        ["score-files, a thread for each core", figure(found.every_core), ratio(found.every_core, found.raw)],
    ] if found else []  # fmt: skip
    return Table("Rows of files", ["", "rows/s", "× bare ONNX Runtime"], rows)


def targets(results: Results) -> list[Target]:
    """The project's targets for the batch pattern."""
    found: list[Target] = []
    for name in DATABASES:
        of = results.databases.get(name)
        found.append(
            at_least(
                f"{name}: in sets against one by one",
                100,
                of and of.score,
                of and of.one_by_one,
                ("in sets", "one by one"),
            )
        )
        found.append(at_most(f"{name}: memory of the scorer", 400, of and of.peak_mb, " MB"))
    two = results.databases.get(TWICE)
    found.append(at_least("two scorers on PostgreSQL", 1.6, two and two.two_scorers, two and two.score, ("two", "one")))
    files = results.files
    found.append(
        Target(
            "score-files: rows per second and core of engine time, in millions",
            1.0,
            files.engine / 1e6 if files else None,
            at_least=True,
            evidence=f"bare ONNX Runtime {files.raw / 1e6:.2f}" if files else "",
        )
    )
    found.append(at_most("score-files: memory", 400, files.peak_mb if files else None, " MB"))
    return found
