"""From a part of the input to a part of the output: the same code on one machine and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.files.columns import OVERFLOWED, FeatureColumns
from serving.batch.files.source import Format, Part, read
from serving.batch.files.target import ADDED, Done, Manifest, with_results, writing

Tell = Callable[[int, int], object]


class RowsEngine(Protocol):
    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 `[N, F]` to probabilities float32 `[N, classes]`. Called by several threads at once."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything about a run but its engine; plain values, so that it can be sent to another machine."""

    source: str
    target: str
    source_format: Format
    target_format: Format
    columns: list[str]
    labels: list[str]
    tag: str
    batch_rows: int


class StoppedError(Exception):
    """Another part has failed, or the run was interrupted."""


class PartScorer:
    """Scores parts; any number of threads may call one."""

    def __init__(self, job: Job, engine: RowsEngine) -> None:
        self._job = job
        self._engine = engine
        self._columns = FeatureColumns(job.columns)
        self._target = Manifest(job.target)

    def __call__(
        self, part: Part, *, tell: Tell = lambda _good, _bad: None, stopped: Callable[[], bool] = bool
    ) -> Done:
        """Read, score, write and commit a part, in batches; memory holds a batch or two, never the part.

        Args:
            tell: is called with the numbers of good and of failed rows of each batch that is done.
            stopped: when it says so, the part is given up.

        Raises:
            FilesError: the part cannot be read or written.
            StoppedError: `stopped` said so.
        """
        counts = _Counts()
        with self._target.part(part, self._job.target_format) as (file, name):
            scored = self._scored(part, counts)
            first = next(scored)  # there is one, be it empty
            with writing(file, self._job.target_format, first.schema) as writer:
                for batch in chain([first], scored):
                    writer.write_batch(batch)
                    bad = batch.num_rows - batch.column(ADDED[-1]).null_count
                    tell(batch.num_rows - bad, bad)
                    if stopped():
                        raise StoppedError
        done = Done(part.number, name, counts.rows, counts.failed, counts.engine_seconds)
        self._target.commit(done)
        return done

    def _scored(self, part: Part, counts: _Counts) -> Iterator[pa.RecordBatch]:
        job = self._job
        for batch, torn in read(job.source, job.source_format, part, batch_rows=job.batch_rows):
            rows = self._columns.read(batch)
            probabilities = np.empty((0, len(job.labels)), np.float32)
            if torn is not None:
                errors = pa.array(torn, pa.string())
            else:
                faults = rows.faults
                if len(rows.features):
                    began = time.thread_time()
                    probabilities = self._engine.predict(rows.features)
                    counts.engine_seconds += time.thread_time() - began
                    # the sum of a row is finite when all of it is
                    finite = np.isfinite(probabilities.sum(axis=1))
                    if not finite.all():
                        faults[np.flatnonzero(faults == 0)[~finite]] = OVERFLOWED
                        probabilities = probabilities[finite]
                errors = self._columns.explain(faults)
            counts.rows += batch.num_rows
            counts.failed += len(errors) - errors.null_count
            yield with_results(batch, probabilities, job.labels, job.tag, errors)


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    failed: int = 0
    engine_seconds: float = 0.0
