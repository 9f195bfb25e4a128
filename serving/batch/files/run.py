"""A whole run: parts are planned, pinned, scored in parallel and counted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from serving.batch.files.parts import LINE, Part, csv_row_bytes, cut, layout_of
from serving.batch.files.results import Results
from serving.batch.files.scoring import Job, PartScorer, Tell
from serving.batch.files.target import Done, Manifest, TargetFormat, choose_format
from serving.batch.reading import SHOWN_ROWS, FilesError
from serving.batch.reading.columns import find_columns
from serving.batch.reading.judge import Table
from serving.batch.reading.layout import check_file
from serving.batch.reading.options import ReadOptions
from serving.batch.reading.parquet import check_types, opened_parquet
from serving.batch.reading.sources import Source, find_source, open_filesystem
from serving.batch.reading.text import BLOCK_BYTES, count_lines, opened
from serving.core.engine import Engine
from serving.store.models import StoredModel

PART_ROWS = 1_000_000
BATCH_ROWS = 65_536
_AS_THEY_ARE = ReadOptions()


@dataclass(frozen=True, slots=True)
class Plan:
    """A run before it begins."""

    job: Job
    model: StoredModel
    parts: list[Part]
    """Those that are left to do."""
    done: list[Done]
    """Those that an earlier run has done."""
    skipped: list[str]
    """Files of the input that are no rows."""

    @property
    def rows_left(self) -> int | None:
        """`None` where only reading tells."""
        rows = [part.rows for part in self.parts]
        return None if None in rows else sum(filter(None, rows))


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run. Rows are those of the whole output; rates and seconds are of this run."""

    rows: int
    failed: int
    parts: int
    parts_done_before: int
    seconds: float
    rows_per_second: float
    engine_seconds: float
    model_tag: str
    skipped: list[str]
    first_failed: list[str]
    """The first 20 bad rows of this run: file, line and reason."""


def plan(
    source_url: str,
    target_url: str,
    model: StoredModel,
    *,
    options: ReadOptions = _AS_THEY_ARE,
    target_format: TargetFormat | None = None,
    part_rows: int = PART_ROWS,
    batch_rows: int = BATCH_ROWS,
) -> Plan:
    """Look at the input and the output. The output is begun, or continued where it is of the same input and model.

    Args:
        model: of rows.
        options: how the files are written, where they do not tell.

    Raises:
        FilesError: the run cannot be done as it is asked for.
    """
    if model.metadata.kind != "rows" or not model.metadata.signature.has_rows:
        what = model.metadata.kind if model.metadata.kind != "rows" else "rows that cannot be put together"
        raise FilesError(f"model {model.tag} is a model of {what}; score-files is for models of rows")
    table = Table.of(model.metadata)
    results = Results(model.metadata, model.tag)
    _refuse_nested(source_url, target_url)
    source = find_source(source_url)
    format_ = choose_format(target_url, target_format, source.format)
    chosen: list[str] = []
    for file in source.files:
        available, found = _columns(source, file["path"], table, options)
        results.check(available, file["path"])
        if chosen and found != chosen:
            raise FilesError(f"{file['path']}: the values are in {', '.join(found)}, in others in {', '.join(chosen)}")
        chosen = found
    manifest = Manifest(target_url)
    pinned = manifest.pin(
        {
            "model_tag": model.tag,
            "input": source.files,
            "columns": chosen,
            "format": format_,
            "part_rows": part_rows,
            "csv_row_bytes": csv_row_bytes(len(table.columns)),
        }
        | ({"options": asdict(options) | {"columns": []}} if replace(options, columns=()) != _AS_THEY_ARE else {})
    )
    # Outputs that were begun before this was noted have rows of four values.
    row_bytes = pinned.get("csv_row_bytes", csv_row_bytes(4))
    parts = cut(source, options, table, part_rows=pinned["part_rows"], csv_row_bytes=row_bytes)
    done = manifest.done()
    job = Job(
        source=source_url,
        target=target_url,
        source_format=source.format,
        target_format=format_,
        options=options,
        columns=chosen,
        tag=model.tag,
        batch_rows=batch_rows,
        csv_row_bytes=row_bytes,
    )
    return Plan(job, model, [part for part in parts if part.number not in done], list(done.values()), source.skipped)


def _columns(source: Source, name: str, table: Table, options: ReadOptions) -> tuple[list[str], list[str]]:
    """The names of a file's columns, and of those that hold the columns of the model."""
    filesystem, _ = open_filesystem(source.url)
    check_file(filesystem, name, source.format, options)
    if source.format == "jsonl":
        return [LINE], []
    if source.format == "csv":
        layout = layout_of(filesystem, name, table, options)
        if layout.places is None:
            raise FilesError(f"{name}: the column values has JSON, which `serving batch load` reads")
        return layout.names, [layout.names[place] for place in layout.places]
    with opened_parquet(filesystem, name) as parquet:
        schema = parquet.schema_arrow
    try:
        places = find_columns(schema.names, table, options.columns)
    except FilesError as error:
        raise FilesError(f"{name}: {error}") from error
    check_types(schema, places, table, name)
    return schema.names, [schema.names[place] for place in places]


def _refuse_nested(source_url: str, target_url: str) -> None:
    (source_filesystem, source), (target_filesystem, target) = map(open_filesystem, (source_url, target_url))
    source, target = source.rstrip("/"), target.rstrip("/")
    if source_filesystem == target_filesystem and (target == source or target.startswith(f"{source}/")):
        raise FilesError("OUTPUT lies in INPUT: its parts would be scored as well")


class Runner(Protocol):
    """Does parts somewhere."""

    def __call__(self, plan: Plan, *, tell: Tell) -> Iterable[Done]:
        """The parts that are done, as they end; `tell` is called with numbers of rows meanwhile."""


def run(plan: Plan, runner: Runner, *, tell: Tell = lambda _good, _bad: None) -> Summary:
    """Score the parts of `plan` that are left.

    Raises:
        FilesError: a part cannot be read or written. Those that are done stay done.
    """
    began = time.perf_counter()
    new = list(runner(plan, tell=tell)) if plan.parts else []
    seconds = time.perf_counter() - began
    Manifest(plan.job.target).finish()
    every = [*plan.done, *new]
    return Summary(
        rows=sum(done.rows for done in every),
        failed=sum(done.failed for done in every),
        parts=len(every),
        parts_done_before=len(plan.done),
        seconds=round(seconds, 3),
        rows_per_second=round(sum(done.rows for done in new) / seconds) if new else 0,
        engine_seconds=round(sum(done.engine_seconds for done in new), 3),
        model_tag=plan.job.tag,
        skipped=plan.skipped,
        first_failed=_first_failed(plan, new),
    )


def _first_failed(plan: Plan, done: Iterable[Done]) -> list[str]:
    """The first bad rows, with the numbers of their lines in the files."""
    parts = {part.number: part for part in plan.parts}
    shown: list[str] = []
    for each in sorted(done, key=lambda each: each.number):
        bad = json.loads(each.bad)[: SHOWN_ROWS - len(shown)]
        before = _lines_before(plan.job, parts[each.number]) if bad else 0
        what = "row" if plan.job.source_format == "parquet" else "line"
        shown += [f"{parts[each.number].file}, {what} {before + line}: {error}" for line, error in bad]
    return shown


def _lines_before(job: Job, part: Part) -> int:
    """How many lines, of Parquet rows, a file has before a part."""
    filesystem, _ = open_filesystem(job.source)
    if not part.first:
        return 0
    if job.source_format == "parquet":
        with opened_parquet(filesystem, part.file) as parquet:
            return sum(parquet.metadata.row_group(group).num_rows for group in range(part.first))
    lines, left = 0, part.first
    with opened(filesystem, part.file) as stream:
        while left and (piece := stream.read(min(left, BLOCK_BYTES))):
            lines += count_lines(piece)
            left -= len(piece)
    return lines


class Threads:
    """Parts in threads of this process, which share one engine. Arrow and ONNX Runtime release the interpreter lock."""

    def __init__(self, engine: Engine, *, threads: int) -> None:
        self._engine = engine
        self._threads = threads

    def __call__(self, plan: Plan, *, tell: Tell) -> Iterator[Done]:
        stop = threading.Event()
        scorer = PartScorer(plan.job, plan.model.metadata, self._engine)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="score-files") as pool:
            waiting = [pool.submit(scorer, part, tell=tell, stopped=stop.is_set) for part in plan.parts]
            try:
                for ended in as_completed(waiting):
                    yield ended.result()
            finally:
                # after an error, or Ctrl-C, parts that have not ended are given up
                stop.set()
                for future in waiting:
                    future.cancel()
