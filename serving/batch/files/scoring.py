"""From a part of the input to a part of the output: the same code on one machine and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa

from serving.batch.files.columns import OVERFLOWED, REFUSED, Rows, TableColumns
from serving.batch.files.results import ERROR, Results
from serving.batch.files.source import Format, Part, read
from serving.batch.files.target import Done, Manifest, writing
from serving.core.engine import Engine
from serving.core.errors import InvalidInputError
from serving.core.halving import run_in_halves
from serving.core.tensors import Tensors, join, rows, split
from serving.store.models import ModelMetadata

Tell = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Job:
    """A run without its model and engine; plain values, so that it can be sent to another machine."""

    source: str
    target: str
    source_format: Format
    target_format: Format
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
        self._columns = TableColumns(job.columns, metadata)
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
        done = Done(part.number, name, counts.rows, counts.failed, counts.engine_seconds)
        self._target.commit(done)
        return done

    def _scored(self, part: Part, counts: _Counts) -> Iterator[pa.RecordBatch]:
        job = self._job
        found = read(job.source, job.source_format, part, batch_rows=job.batch_rows, csv_row_bytes=job.csv_row_bytes)
        for batch, torn in found:
            outputs = self._results.empty()
            if torn is not None:
                errors = pa.array(torn, pa.string())
            else:
                found_rows = self._columns.read(batch)
                if found_rows.number:
                    outputs = self._run(found_rows, counts)
                errors = self._columns.explain(found_rows.faults)
            counts.rows += batch.num_rows
            counts.failed += len(errors) - errors.null_count
            yield self._results.add(batch, outputs, errors)

    def _run(self, found: Rows, counts: _Counts) -> Tensors:
        """The outputs of the rows that can be predicted; the others get a fault."""
        began = time.thread_time()
        try:
            outputs = self._engine.run(found.tensors)
        except InvalidInputError:
            outputs = self._run_in_halves(found)
        counts.engine_seconds += time.thread_time() - began
        finite = self._results.finite(outputs)
        if finite is not None:
            found.faults[np.flatnonzero(found.faults == 0)[~finite]] = OVERFLOWED
            outputs = {name: array[finite] for name, array in outputs.items()}
        return outputs

    def _run_in_halves(self, found: Rows) -> Tensors:
        answers = run_in_halves(range(found.number), partial(self._run_part, found.tensors), InvalidInputError)
        good = np.array([not isinstance(each, InvalidInputError) for each in answers])
        found.faults[np.flatnonzero(found.faults == 0)[~good]] = REFUSED
        outputs = [each for each in answers if not isinstance(each, InvalidInputError)]
        return join(outputs) if outputs else self._results.empty()

    def _run_part(self, tensors: Tensors, part: Sequence[int]) -> list[Tensors]:
        """The outputs of each of some consecutive rows."""
        return split(self._engine.run(rows(tensors, part[0], part[-1] + 1)), [1] * len(part))


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    failed: int = 0
    engine_seconds: float = 0.0
