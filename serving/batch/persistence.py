"""Repeating a call to a database that failed for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from serving.batch.database import Database
from serving.batch.database_errors import cause, is_conflict, is_outage
from serving.core.backoff import Backoff
from serving.core.errors import ServingError

_Result = TypeVar("_Result")


class DatabaseAwayError(ServingError):
    """The database did not come back in time. Committed chunks stay, and the same command continues from there."""

    code = "unavailable"


class Persistent:
    """Repeats a call that uses the database until it succeeds.

    It waits for a conflicting transaction to end, or for the database to come back, for up to `seconds` since the last
    success. `sleep` waits, and `tell` is called with the reason.

    Raises, when called:
        DatabaseAwayError: there was no success within `seconds`.
        sqlalchemy.exc.DBAPIError: an error that waiting does not mend, such as a full disk.
    """

    def __init__(
        self,
        database: Database,
        *,
        seconds: float,
        tell: Callable[[str], object] = lambda _: None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._database = database
        self._seconds = seconds
        self._tell = tell
        self._sleep = sleep

    def __call__(self, call: Callable[[], _Result]) -> _Result:
        backoff = Backoff(first=0.05, most=5.0)
        first_failure: float | None = None
        while True:
            try:
                return call()
            except DBAPIError as error:
                conflict = is_conflict(error)
                if not conflict and not is_outage(error):
                    raise
                now = time.monotonic()
                first_failure = first_failure or now
                reason = "is busy" if conflict else "is away"
                if now - first_failure >= self._seconds:
                    message = f"{self._database} {reason}, for {self._seconds:g} s now: {cause(error)}"
                    raise DatabaseAwayError(
                        f"{message}; committed rows stay, run the command again to continue"
                    ) from error
                if not conflict:
                    self._tell(f"the database {reason}, trying again: {cause(error)}")
                self._sleep(backoff.next())
