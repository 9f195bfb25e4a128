"""One batch of jobs through the engine of a model, in a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from serving.core.errors import (
    InvalidInputError,
    MalformedRequestError,
    PayloadTooLargeError,
    ServingError,
    UnsupportedMediaTypeError,
)
from serving.core.halving import run_in_halves
from serving.jobs.job import Claimed, JobError
from serving.jobs.work import Answer, Prepared, Work

logger = logging.getLogger("serving.jobs.worker")

# The fault is in the input, which will be the same next time.
_PERMANENT = (InvalidInputError, MalformedRequestError, PayloadTooLargeError, UnsupportedMediaTypeError)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, as the caller is told, and whether another one may help."""

    error: JobError
    retryable: bool


Outcome = bytes | Failure


@dataclass(frozen=True, slots=True)
class Ready:
    """A claimed job whose input has been decoded."""

    claimed: Claimed
    prepared: Prepared


def failure(error: Exception, claimed: Claimed) -> Failure:
    """What the caller is told of `error`. Internal errors go to the log, with the job's id."""
    if isinstance(error, ServingError):
        return Failure(JobError(error.code, error.message), retryable=not isinstance(error, _PERMANENT))
    lease = claimed.lease
    logger.error("job %s: attempt %d failed", lease.job_id, lease.attempt, exc_info=error)
    message = "the prediction failed; the log has the cause under the job's id"
    return Failure(JobError(ServingError.code, message), retryable=True)


class EngineCall:
    """Runs batches; loads the engine before the first one."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._opening = threading.Lock()
        self._opened = False

    def open(self) -> None:
        """Load the engine unless it is loaded. Several threads may ask at once."""
        with self._opening:
            if not self._opened:
                self._work.open()
                self._opened = True

    def __call__(self, batch: Sequence[Ready]) -> list[Outcome]:
        """The outcome of each job, in order."""
        try:
            self.open()
        except Exception as error:  # noqa: BLE001 - a model that cannot be loaded now may be at the next attempt
            return [failure(error, ready.claimed) for ready in batch]
        answers = run_in_halves(batch, self._run, Exception)
        return [_outcome(answer, ready.claimed) for answer, ready in zip(answers, batch, strict=True)]

    def _run(self, batch: Sequence[Ready]) -> list[Answer]:
        return self._work.run([ready.prepared for ready in batch])


def _outcome(answer: bytes | Exception, claimed: Claimed) -> Outcome:
    return answer if isinstance(answer, bytes) else failure(answer, claimed)
