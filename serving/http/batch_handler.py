"""What the batch routes do with the database: in threads, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

import msgspec
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError

from serving.batch.database import Database
from serving.batch.database_errors import is_conflict, is_denied, is_outage
from serving.batch.items import LARGEST_ID, add_items, get_item, page_of_items, page_of_runs
from serving.batch.migrate import require_tables
from serving.batch.rights import explain
from serving.batch.tables import Status
from serving.codecs.json_body import read_json
from serving.core.errors import (
    ConfigurationError,
    ErrorDetail,
    InvalidInputError,
    MalformedRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    UnavailableError,
)
from serving.core.validation import from_validation
from serving.http import batch_documents as documents
from serving.http.batch_documents import MOST_ITEMS, NewItems
from serving.http.exchange import Exchange
from serving.http.parameters import QueryParameter
from serving.model import Models

logger = logging.getLogger("serving.batch")

T = TypeVar("T")
MOST_BYTES = 1_048_576
"""Of a body that adds rows."""
_THREADS = 4
_MOST_WAITING = 64
_RETRY_SECONDS = 2
_MOST_CONFLICTS = 2

STATUS = QueryParameter("status", "Only rows with this status.", TypeAdapter(Status))
LIMIT = QueryParameter(
    "limit", "Most of them in the answer; 100 unless given.", TypeAdapter(Annotated[int, Field(ge=1, le=MOST_ITEMS)])
)
AFTER = QueryParameter(
    "after", "`next` of the page before.", TypeAdapter(Annotated[int, Field(ge=0, le=LARGEST_ID)])
)  # fmt: skip


class BatchHandler:
    """Answers from the database of the batch pattern, which may be away."""

    def __init__(self, database: Database, models: Models) -> None:
        self._database = database
        self._models = models
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="batch-api")
        self._waiting = 0

    async def items(self, exchange: Exchange) -> bytes:
        status, after, limit = STATUS.read(exchange), AFTER.read(exchange) or 0, LIMIT.read(exchange) or 100

        def read() -> bytes:
            rows = page_of_items(self._database, status=status, after=after, limit=limit + 1)
            return documents.items(rows[:limit], more=len(rows) > limit)

        return await self._in_thread(read)

    async def item(self, item_id: int) -> bytes:
        """Raises NotFoundError when there is no such row."""

        def read() -> bytes:
            row = get_item(self._database, item_id) if item_id <= LARGEST_ID else None
            if row is None:
                raise NotFoundError(f"there is no row {item_id}")
            return documents.item(row)

        return await self._in_thread(read)

    async def runs(self, exchange: Exchange) -> bytes:
        before, limit = AFTER.read(exchange), LIMIT.read(exchange) or 100

        def read() -> bytes:
            rows = page_of_runs(self._database, before=before, limit=limit + 1)
            return documents.runs(rows[:limit], more=len(rows) > limit)

        return await self._in_thread(read)

    async def add(self, exchange: Exchange) -> bytes:
        """Raises what is wrong with the body; then nothing has been added."""
        body = await read_json(exchange.request())
        if len(body) > MOST_BYTES:
            raise PayloadTooLargeError(f"rows to add may have {MOST_BYTES} bytes; these have {len(body)}")

        def add() -> bytes:
            return documents.added(add_items(self._database, self._decoded(body)))

        return await self._in_thread(add)

    def close(self) -> None:
        """Nothing is asked any more; what is being asked is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._database.close()

    def _decoded(self, body: bytes) -> list[tuple[str, Any]]:
        if not body:
            raise MalformedRequestError('the body is empty; send {"items": [{"model": "…", "values": …}]}')
        try:
            items = NewItems.model_validate_json(body).items
        except ValidationError as error:
            raise from_validation(error) from error
        rows: list[tuple[str, Any]] = []
        for index, item in enumerate(items):
            place = f"items[{index}]"
            try:
                codec = self._models.find(item.model).codec
            except NotFoundError as error:
                raise _wrong(f"{place}.model", error.message) from error
            fault = codec.check_row(msgspec.json.encode(item.values).decode())
            if fault is not None:
                found = fault.details[0] if fault.details else ErrorDetail("values", fault.message)
                raise _wrong(f"{place}.{found.field}", found.message.removeprefix("values: "))
            rows.append((item.model, item.values))
        return rows

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns; it is not begun any more once the request has been given up.

        Raises:
            OverloadedError: too many wait for a thread.
            UnavailableError: the database is away, busy, or has no tables.
        """
        if self._waiting >= _MOST_WAITING:
            raise OverloadedError(
                f"{self._waiting} requests wait for the database already; try again later", retry_after=_RETRY_SECONDS
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, work)
        finally:
            self._waiting -= 1

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return self._repeated(work)
        except ConfigurationError as error:  # a certificate that is gone
            logger.error("%s", error)
            raise _unavailable("the database of the batch rows cannot be used") from error
        except DBAPIError as error:
            if not (is_outage(error) or is_conflict(error)):
                self._require_usable(error)
                raise
            # not the error's text: it may have the host and the user
            logger.warning("the database of the batch rows does not answer: %s", type(error.orig).__name__)
            raise _unavailable("the database of the batch rows does not answer; try again later") from error

    def _repeated(self, work: Callable[[], T]) -> T:
        """What `work` returns; again when another transaction was in the way, which undid all of it."""
        for _ in range(_MOST_CONFLICTS):
            try:
                return work()
            except DBAPIError as error:
                # SQLite has waited for long already.
                if self._database.kind == "sqlite" or not is_conflict(error):
                    raise
        return work()

    def _require_usable(self, error: DBAPIError) -> None:
        """Raises UnavailableError if the statement failed for want of a table or of a right."""
        if is_denied(error):
            logger.error("the database of the batch rows: %s", explain(self._database, error))
            raise _unavailable("the database of the batch rows cannot be used") from error
        try:
            require_tables(self._database)
        except ConfigurationError as reason:
            logger.error("%s", reason)
            raise _unavailable("the tables of the batch rows have not been made or migrated yet") from error


def _unavailable(message: str) -> UnavailableError:
    return UnavailableError(message, retry_after=_RETRY_SECONDS)


def _wrong(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}", details=[ErrorDetail(field, message)])
