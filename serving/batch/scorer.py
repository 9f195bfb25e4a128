"""A run: claim a chunk of rows, predict them, write the predictions, and repeat.

Where the database has row locks (PostgreSQL, MariaDB, MySQL) a chunk is one transaction: its rows are locked by
`FOR UPDATE SKIP LOCKED` while they are predicted, so each row is written once, nothing is left half-written, and the
database itself gives the rows of a scorer that has died to the next one. In SQLite a chunk is claimed by a lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from serving.batch import runs
from serving.batch.checks import unknown_model
from serving.batch.chunk import Chunk, ChunkResult, chunks_of
from serving.batch.database import Database
from serving.batch.persistence import Persistent
from serving.batch.predictor import OpenPredictor, Predictor
from serving.batch.run_limits import StoppedError, Stopper
from serving.batch.runs import Outcome
from serving.batch.scope import Policy, Scan, Scope, scans_of
from serving.codecs.base import RowAnswers

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of a run; `limit` and `deadline` end it early."""

    scope: Scope = field(default_factory=Scope)
    policy: Policy = "retry-failed"
    chunk_rows: int = 10_000
    max_attempts: int = 3
    limit: int | None = None
    deadline: datetime | timedelta | None = None
    lease_seconds: float = 60.0
    retry_seconds: float = 60.0

    def as_json(self) -> dict[str, Any]:
        """For the column `scope` of a run."""
        found = self.scope.as_json() | {"on_failure": self.policy}
        if self.limit is not None:
            found["limit"] = self.limit
        return found


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run. `remaining` rows of its scope have no prediction yet; `seconds` is its duration."""

    run: int
    outcome: Outcome
    claimed: int
    succeeded: int
    failed: int
    remaining: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        return (self.succeeded + self.failed) / self.seconds if self.seconds else 0.0


class Progress(Protocol):
    def start(self, total: Callable[[], int]) -> None:
        """The run begins; `total` counts its rows."""

    def advance(self, *, succeeded: int, failed: int) -> None:
        """A chunk has been committed."""

    def trouble(self, message: str) -> None:
        """The run waits; the message says for what."""


class Scorer:
    """Runs over a database, one at a time. `stopper` ends a run after its current chunk.

    Raises, from `run`:
        DatabaseAwayError, sqlalchemy.exc.DBAPIError: the database failed; committed chunks stay.
        ModelError: the model of a row cannot be loaded.
    """

    def __init__(
        self,
        database: Database,
        models: Mapping[str, OpenPredictor],
        *,
        progress: Progress,
        stopper: Stopper,
    ) -> None:
        self._database = database
        self._models = models
        self._opened: dict[str, Predictor] = {}
        self._progress = progress
        self._stopper = stopper

    def run(self, plan: Plan) -> Summary:
        began = time.monotonic()
        persistent = Persistent(
            self._database, seconds=plan.retry_seconds, tell=self._progress.trouble, sleep=self._stopper.sleep
        )
        begun = persistent(lambda: runs.begin(self._database, plan.as_json()))
        try:
            outcome = _Run(self, plan, begun, persistent).score()
        except BaseException as error:
            self._note_failure(begun.id, error)
            raise
        # Without the stopper: it may have ended the run already.
        closing = Persistent(self._database, seconds=plan.retry_seconds, tell=self._progress.trouble)
        closing(lambda: runs.finish(self._database, begun.id, outcome))
        claimed, succeeded, failed = closing(lambda: runs.counts(self._database, begun.id))
        remaining = closing(lambda: runs.unpredicted(self._database, _bounded(plan.scope, begun.last_id)))
        return Summary(begun.id, outcome, claimed, succeeded, failed, remaining, time.monotonic() - began)

    def _note_failure(self, run_id: int, error: BaseException) -> None:
        """Note the failure if possible; the database itself may have failed."""
        try:
            text = str(error) if not hasattr(error, "orig") else str(error.orig)
            runs.finish(self._database, run_id, Outcome.FAILED, text or type(error).__name__)
        except Exception:  # noqa: BLE001 - the error that ended the run is the one to report
            return

    def predict(self, model: str | None, chunk: Chunk) -> tuple[RowAnswers, str | None]:
        """The answers to the rows of a chunk, and the tag of the model. A model of `None` is one that is not served."""
        if model is None:
            nothing: list[str | None] = [None] * len(chunk.ids)
            error = unknown_model(None, self._models)
            return RowAnswers(nothing, nothing, [error] * len(chunk.ids)), None
        predictor = self.opened(model)
        return predictor.predict(chunk.values), predictor.tag

    def opened(self, model: str) -> Predictor:
        if model not in self._opened:
            self._opened[model] = self._models[model]()
        return self._opened[model]


class _Run:
    def __init__(self, scorer: Scorer, plan: Plan, begun: runs.RunStarted, persistent: Persistent) -> None:
        self._scorer = scorer
        self._database = scorer._database
        self._progress = scorer._progress
        self._stopper = scorer._stopper
        self._persistent = persistent
        self._plan = plan
        self._run_id = begun.id
        self._scope = _bounded(plan.scope, begun.last_id)
        self._scans = scans_of(
            self._scope,
            plan.policy,
            known=list(scorer._models),
            max_attempts=plan.max_attempts,
            began=begun.at,
        )
        self._chunks = chunks_of(self._database.kind, lease_seconds=plan.lease_seconds)
        self._left = plan.limit
        if plan.deadline is not None:
            # The deadline is by the database's clock; from here on a monotonic clock counts.
            left = plan.deadline if isinstance(plan.deadline, timedelta) else plan.deadline - begun.at
            self._stopper.end_in(left.total_seconds())

    def score(self) -> Outcome:
        self._progress.start(lambda: self._persistent(self._total))
        try:
            if self._plan.policy == "retry-all":
                self._persistent(self._replace_all)
            else:
                self._scan_until_done()
        except StoppedError as stopped:
            return stopped.outcome
        return Outcome.DONE

    def _total(self) -> int:
        total = runs.matching(self._database, self._scans)
        return total if self._left is None else min(total, self._left)

    def _scan_until_done(self) -> None:
        """Repeat until no row is left. Rows that other scorers have claimed are waited for, since those may die."""
        waited = remaining = None
        while True:
            for scan in self._scans:
                self._scan(scan)
            if self._left == 0:
                return
            found = self._persistent(lambda: runs.unpredicted(self._database, self._scope))
            if not found:
                return
            if found != remaining:
                remaining, waited = found, time.monotonic()
            elif waited is not None and time.monotonic() - waited > 2 * self._plan.lease_seconds:
                raise StoppedError(Outcome.BLOCKED)
            self._progress.trouble(f"{found} rows are claimed by other scorers; waiting for them")
            self._stopper.check()
            self._stopper.sleep(_POLL_SECONDS)

    def _scan(self, scan: Scan) -> None:
        if not self._prepare(scan):
            return
        after = 0
        while self._left != 0:
            self._stopper.check()
            began = time.monotonic()
            last_id = self._persistent(lambda after=after: self._chunk(scan, after))  # type: ignore[misc]
            if last_id is None:
                return
            after = last_id
            self._stopper.took(time.monotonic() - began)

    def _prepare(self, scan: Scan) -> bool:
        """Load the model of a scan if there is a row; before rows are claimed, since loading may take a while."""
        self._stopper.check()
        if not self._persistent(lambda: runs.any_of(self._database, scan)):
            return False
        if scan.model is not None:
            self._scorer.opened(scan.model)
        return True

    def _rows(self, scan: Scan) -> int:
        rows = self._plan.chunk_rows
        if scan.model is not None:
            rows = min(rows, self._scorer.opened(scan.model).most_rows)
        return rows if self._left is None else min(rows, self._left)

    def _chunk(self, scan: Scan, after: int) -> int | None:
        """Claim, predict, write and commit a chunk; its last id, or `None` when there was no row."""
        if self._chunks.leases:
            with self._database.write() as connection:
                chunk = self._chunks.claim(connection, scan, after=after, rows=self._rows(scan))
            if chunk is None:
                return None
            predictions, tag = self._scorer.predict(scan.model, chunk)
            with self._database.write() as connection:
                written = self._write(connection, chunk, predictions, tag)
        else:
            with self._database.write() as connection:
                chunk = self._chunks.claim(connection, scan, after=after, rows=self._rows(scan))
                if chunk is None:
                    return None
                predictions, tag = self._scorer.predict(scan.model, chunk)
                written = self._write(connection, chunk, predictions, tag)
        self._count(len(chunk.ids), written)
        return chunk.last_id

    def _write(self, connection: Any, chunk: Chunk, predictions: RowAnswers, tag: str | None) -> ChunkResult:
        written = self._chunks.write(connection, chunk, predictions, tag=tag)
        runs.add(connection, self._run_id, claimed=len(chunk.ids), written=written)
        return written

    def _count(self, claimed: int, written: ChunkResult) -> None:
        if self._left is not None:
            self._left -= claimed
        self._progress.advance(succeeded=written.succeeded, failed=written.failed)

    def _replace_all(self) -> None:
        """Score every row of the scope in one transaction: readers see all old predictions, then all new ones."""
        left = self._left
        with self._database.write() as connection:
            for scan in filter(self._prepare, self._scans):
                after = 0
                while left != 0:
                    self._stopper.check()
                    rows = self._rows(scan) if left is None else min(self._rows(scan), left)
                    chunk = self._chunks.take(connection, scan, after=after, rows=rows)
                    if chunk is None:
                        break
                    predictions, tag = self._scorer.predict(scan.model, chunk)
                    written = self._write(connection, chunk, predictions, tag)
                    self._progress.advance(succeeded=written.succeeded, failed=written.failed)
                    after = chunk.last_id
                    left = None if left is None else left - len(chunk.ids)


def _bounded(scope: Scope, last_id: int) -> Scope:
    return replace(scope, last_id=last_id if scope.last_id is None else min(scope.last_id, last_id))
