"""The micro-batcher: while the engine is busy requests queue; when it is free, what waits goes in one call.

With an idle engine a lone request is dispatched at once: there is no timer and no learned wait, so a burst
leaves nothing behind. Independent of HTTP and of BentoML.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from opentelemetry import trace

from serving.core.errors import DeadlineExceededError, InvalidInputError, OverloadedError, UnavailableError
from serving.core.halving import run_in_halves
from serving.core.tensors import Tensors, count, join, rows, split

_SMOOTHING = 0.2
_LONGEST_RETRY_SECONDS = 60
_SAME_MOMENT_SECONDS = 0.02
_NO_SPAN = nullcontext()
logger = logging.getLogger("serving.core.batcher")
_tracer = trace.get_tracer("serving.core.batcher")


class Observer:
    """Is told what the batcher does; this one does nothing with it."""

    def batch(self, rows: int) -> None:
        """An engine call with `rows` rows begins."""

    def waited(self, seconds: float) -> None:
        """An entry, or its first part, leaves the queue for the engine."""

    def depth(self, rows: int) -> None:
        """The number of rows that wait."""

    def dropped(self, reason: str) -> None:
        """An entry leaves the queue without an answer: `queue_full`, `expired` or `cancelled`."""


@dataclass(eq=False, slots=True)
class _Entry:
    """One caller's rows. A large entry is taken in parts, which `outputs` collects in order."""

    tensors: Tensors
    rows: int
    """How many there are; 1 for tensors that have no rows in common."""
    shapes: tuple[tuple[int, ...], ...]
    """Of a row, where rows may differ: only rows of equal shapes share a batch."""
    answer: asyncio.Future[Tensors]
    alone: bool
    deadline: float
    queued_at: float
    span: trace.SpanContext
    taken: int = 0
    outputs: list[Tensors] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return self.rows - self.taken


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of an entry, on their way through the engine."""

    entry: _Entry
    tensors: Tensors
    rows: int


class MicroBatcher:
    """Batches the rows of concurrent callers into calls of one engine.

    Args:
        predict: tensors of N rows to tensors of N rows, row by row; a row's result must not depend on its neighbours.
        max_batch_rows: most rows in one call.
        max_queue_rows: most rows that wait; beyond it, a caller is turned away.
        has_rows: whether tensors can be joined and split by rows; otherwise every call is a caller's own.
        varies: whether rows may differ in shape; only equal ones are joined.
        linger_seconds: how long the first of a batch waits for company although the engine is free.
        executor: where `predict` runs. `None` is the event loop itself: right for an engine whose call is
            shorter than a hop to a thread and back.

    `observer` is told about batches, waits, depth and drops. Every method has to be called in the thread of one
    event loop.
    """

    def __init__(
        self,
        predict: Callable[[Tensors], Tensors],
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        has_rows: bool = True,
        varies: bool = False,
        linger_seconds: float = 0.0,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._predict = predict
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._has_rows = has_rows
        self._varies = varies
        self._linger_seconds = linger_seconds
        self._executor = executor
        self.observer = Observer()
        self._clock = clock
        self._queue: deque[_Entry] = deque()
        self._queued_rows = 0
        self._busy = False
        self._scheduled: asyncio.Handle | None = None
        self._seconds_per_row = 0.0
        self._closed = False

    async def submit(self, tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False) -> Tensors:
        """The engine's answer for `tensors`, rows in order.

        Args:
            tensors: N rows, N ≥ 1.
            expires_in: seconds from now after which the answer is of no use; the rows are then dropped unless
                the engine has them already.
            alone: do not share an engine call with another caller.

        A caller that is cancelled takes its rows out of the queue with it.

        Raises:
            OverloadedError: the queue is full; `retry_after` is when it will have been worked off.
            DeadlineExceededError: they passed before the rows reached the engine.
            UnavailableError: the batcher is closed.
            InvalidInputError: there are no rows.
            Exception: what the engine raised for these rows; neighbours are not affected.
        """
        size = count(tensors) if self._has_rows else 1
        if not size:
            raise InvalidInputError("there are no rows to predict")
        if self._closed:
            raise UnavailableError("the model is shutting down", retry_after=1)
        if self._queued_rows and self._queued_rows + size > self._max_queue_rows:
            self.observer.dropped("queue_full")
            raise OverloadedError(
                f"{self._queued_rows} rows are waiting already; try again later", retry_after=self.retry_after()
            )
        loop = asyncio.get_running_loop()
        now = self._clock()
        entry = _Entry(
            tensors=tensors,
            rows=size,
            shapes=tuple(tensors[name].shape[1:] for name in sorted(tensors)) if self._varies else (),
            answer=loop.create_future(),
            alone=alone or not self._has_rows,
            deadline=now + expires_in,
            queued_at=now,
            span=trace.get_current_span().get_span_context(),
        )
        self._queue.append(entry)
        self._change_depth(size)
        self._schedule(loop)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            if entry.waiting:
                # The caller enforces the same deadline; it may expire slightly earlier.
                late = entry.deadline - self._clock() < _SAME_MOMENT_SECONDS
                self.observer.dropped("expired" if late else "cancelled")
                self._forget(entry)
            raise

    def retry_after(self) -> int:
        """Seconds until what waits will have been worked off at the measured rate, 1 to 60."""
        seconds = math.ceil(self._queued_rows * self._seconds_per_row)
        return min(max(1, seconds), _LONGEST_RETRY_SECONDS)

    def close(self) -> None:
        """Accept nothing more; what waits is still answered."""
        self._closed = True

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Dispatch once the loop has handed over everything that has arrived by now."""
        if self._busy or not self._queue:
            return
        complete = self._queued_rows >= self._max_batch_rows or self._queue[0].alone
        delay = 0.0 if complete else self._linger_seconds
        if self._scheduled is not None:
            if delay or not isinstance(self._scheduled, asyncio.TimerHandle):
                return
            self._scheduled.cancel()  # complete before its time
        later = partial(loop.call_later, delay) if delay else loop.call_soon
        self._scheduled = later(self._dispatch, loop)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = None
        batch = self._take()
        if not batch:
            return
        self._busy = True
        started = self._clock()
        if self._executor is None:
            self._finish(loop, started, self._run(batch))
        else:
            running = loop.run_in_executor(self._executor, self._run, batch)
            running.add_done_callback(lambda done: self._finish(loop, started, done.result()))

    def _take(self) -> list[_Part]:
        """The next batch, first come first served.

        An entry that does not fit is taken in parts; between two of its parts it goes behind those that wait,
        so that it holds nobody up for longer than one call.
        """
        now = self._clock()
        batch: list[_Part] = []
        room = self._max_batch_rows
        unfinished: list[_Entry] = []
        while self._queue and room:
            entry = self._queue[0]
            if entry.answer.done():
                self._queue.popleft()
                continue
            if entry.deadline <= now:
                self.observer.dropped("expired")
                entry.answer.set_exception(DeadlineExceededError("the request waited longer than its time limit"))
                self._forget(entry)
                continue
            if batch and (entry.alone or entry.shapes != batch[0].entry.shapes):
                break
            self._queue.popleft()
            size = min(room, entry.waiting)
            whole = size == entry.rows
            part = entry.tensors if whole else rows(entry.tensors, entry.taken, entry.taken + size)
            batch.append(_Part(entry, part, size))
            if not entry.taken:
                self.observer.waited(now - entry.queued_at)
            entry.taken += size
            room -= size
            self._change_depth(-size)
            if entry.waiting:
                unfinished.append(entry)
            if entry.alone:
                break
        self._queue.extend(unfinished)
        return batch

    def _run(self, batch: Sequence[_Part]) -> list[tuple[_Part, Tensors | Exception]]:
        """One engine call; when it fails, the batch is tried in halves until only the culprit fails."""
        # What the engine raises is the answer of the caller that caused it.
        return list(zip(batch, run_in_halves(batch, self._call, Exception), strict=True))

    def _call(self, batch: Sequence[_Part]) -> list[Tensors]:
        """One engine call: the outputs of each part."""
        size = sum(part.rows for part in batch)
        self.observer.batch(size)
        links = [trace.Link(part.entry.span) for part in batch if part.entry.span.is_valid]
        # Without a tracer there are no links, and a span that nobody sees is not made.
        span = _tracer.start_as_current_span("batch", links=links, attributes={"rows": size}) if links else _NO_SPAN
        with span:
            outputs = self._predict(join([part.tensors for part in batch]))
            if self._has_rows and any(len(array) != size for array in outputs.values()):
                # Nobody can tell whose rows are missing, so no caller may be given any of these.
                lengths = {name: len(array) for name, array in outputs.items()}
                logger.error("the engine answered %d rows with %s", size, lengths)
                raise RuntimeError("the engine's answer has a wrong number of rows")
        return split(outputs, [part.rows for part in batch])

    def _finish(
        self, loop: asyncio.AbstractEventLoop, started: float, results: list[tuple[_Part, Tensors | Exception]]
    ) -> None:
        self._busy = False
        size = sum(part.rows for part, _ in results)
        self._seconds_per_row += _SMOOTHING * ((self._clock() - started) / size - self._seconds_per_row)
        for part, result in results:
            self._answer(part.entry, result)
        self._schedule(loop)

    def _answer(self, entry: _Entry, result: Tensors | Exception) -> None:
        if entry.answer.done():  # cancelled, or an earlier part has failed
            return
        if isinstance(result, Exception):
            entry.answer.set_exception(result)
            self._forget(entry)
            return
        entry.outputs.append(result)
        if not entry.waiting:
            outputs = entry.outputs
            entry.answer.set_result(join(outputs))

    def _forget(self, entry: _Entry) -> None:
        """Take out of the queue what is left of an entry."""
        if entry.waiting:
            self._change_depth(-entry.waiting)
            entry.taken = entry.rows
            if entry in self._queue:
                self._queue.remove(entry)

    def _change_depth(self, rows: int) -> None:
        self._queued_rows += rows
        self.observer.depth(self._queued_rows)
