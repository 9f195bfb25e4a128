"""From a part of the input to a part of the output: the same code on one machine and on a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.files.columns import Rows, TableColumns
from serving.batch.files.parts import Batch, Part, read
from serving.batch.files.results import ERROR, Results
from serving.batch.files.target import Done, Manifest, TargetFormat, writing
from serving.batch.reading import SHOWN_ROWS
from serving.batch.reading.judge import Table
from serving.batch.reading.kinds import Format
from serving.batch.reading.options import ReadOptions
from serving.batch.reading.sources import Source
from serving.core.engine import Engine
from serving.core.errors import InvalidInputError
from serving.core.halving import run_in_halves
from serving.core.tensors import NOT_FINITE, Tensors, join, rows, split
from serving.store.models import ModelMetadata

_REFUSED = "the model cannot compute these values"
Tell = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Job:
    """A run without its model and engine; plain values, so that it can be sent to another machine."""

    source: str
    target: str
    source_format: Format
    target_format: TargetFormat
    options: ReadOptions
    columns: list[str]
    """Of the files, in the order of the model's columns."""
    tag: str
    batch_rows: int
    csv_row_bytes: int


class StoppedError(Exception):
    """Another part has failed, or the run was interrupted."""


class PartScorer:
    """Scores parts; any number of threads may call it."""

    def __init__(self, job: Job, metadata: ModelMetadata, engine: Engine) -> None:
        self._job = job
        self._engine = engine
        self._source = Source(job.source, job.source_format, [])
        self._table = Table.of(metadata)
        self._columns = TableColumns(job.columns, metadata, swaps=job.options.swaps)
        self._results = Results(metadata, job.tag)
        self._target = Manifest(job.target)

    def __call__(
        self, part: Part, *, tell: Tell = lambda _good, _bad: None, stopped: Callable[[], bool] = bool
    ) -> Done:
        """Read, score, write and commit a part in batches. Memory holds a batch or two, never the part.

        Args:
            tell: called with the numbers of good and of failed rows of each batch that is done.
            stopped: when it returns true, the part is given up.

        Raises:
            FilesError: the part cannot be read or written.
            StoppedError: `stopped` has returned true.
        """
        counts = _Counts()
        with self._target.part(part, self._job.target_format) as (file, name):
            scored = self._scored(part, counts)
            first = next(scored)  # there is at least one, which may be empty
            with writing(file, self._job.target_format, first.schema, added=self._results.names) as writer:
                for batch in chain([first], scored):
                    writer.write_batch(batch)
                    bad = batch.num_rows - batch.column(ERROR).null_count
                    tell(batch.num_rows - bad, bad)
                    if stopped():
                        raise StoppedError
        bad = json.dumps(counts.first_failed)
        done = Done(part.number, name, counts.rows, counts.failed, counts.engine_seconds, bad)
        self._target.commit(done)
        return done

    def _scored(self, part: Part, counts: _Counts) -> Iterator[pa.RecordBatch]:
        job = self._job
        found = read(
            self._source, job.options, self._table, part, batch_rows=job.batch_rows, csv_row_bytes=job.csv_row_bytes
        )
        for batch in found:
            rows_read = self._columns.read(batch)
            outputs = self._run(rows_read, counts) if rows_read.number else self._results.empty()
            counts.add(batch, rows_read)
            yield self._results.add(
                batch.rows, outputs, pa.array(rows_read.errors, pa.string(), mask=rows_read.errors == "")
            )

    def _run(self, found: Rows, counts: _Counts) -> Tensors:
        """The outputs of the rows that can be predicted; the others get an error."""
        began = time.thread_time()
        try:
            outputs = self._engine.run(found.tensors)
        except InvalidInputError:
            outputs = self._run_in_halves(found)
        counts.engine_seconds += time.thread_time() - began
        finite = self._results.finite(outputs)
        if finite is not None:
            found.errors[_good(found)[~finite]] = NOT_FINITE
            outputs = {name: array[finite] for name, array in outputs.items()}
        return outputs

    def _run_in_halves(self, found: Rows) -> Tensors:
        answers = run_in_halves(range(found.number), partial(self._run_part, found.tensors), InvalidInputError)
        good = np.array([not isinstance(each, InvalidInputError) for each in answers])
        found.errors[_good(found)[~good]] = _REFUSED
        outputs = [each for each in answers if not isinstance(each, InvalidInputError)]
        return join(outputs) if outputs else self._results.empty()

    def _run_part(self, tensors: Tensors, part: Sequence[int]) -> list[Tensors]:
        """The outputs of each of some consecutive rows."""
        return split(self._engine.run(rows(tensors, part[0], part[-1] + 1)), [1] * len(part))


def _good(found: Rows) -> NDArray[np.intp]:
    """The places of the rows that can be predicted."""
    return np.flatnonzero(found.errors == "")


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    failed: int = 0
    engine_seconds: float = 0.0
    first_failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, batch: Batch, found: Rows) -> None:
        failed = np.flatnonzero(found.errors != "")
        self.rows += len(found.errors)
        self.failed += len(failed)
        for row in failed[: SHOWN_ROWS - len(self.first_failed)].tolist():
            self.first_failed.append((batch.line_of(row), found.errors[row]))
