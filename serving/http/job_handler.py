"""What the jobs routes do with the store, and which parameters they take."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter

from serving.core.errors import ConflictError, InvalidInputError, PayloadTooLargeError
from serving.http import job_documents as documents
from serving.http.disconnect import while_connected
from serving.http.exchange import Exchange
from serving.http.parameters import QueryParameter
from serving.jobs.job import Job, NewJob, Status, new_job_id
from serving.jobs.store import JobStore
from serving.jobs.work import Encoded, fingerprint
from serving.settings import Settings
from serving.settings.jobs import JobsSettings
from serving.settings.models import ModelJobsSettings

LONGEST_WAIT_SECONDS = 30.0
KEY_HEADER = "Idempotency-Key"
_KEY_HEADER = KEY_HEADER.lower().encode()
_valid_key = re.compile(r"[\x21-\x7e]{1,255}").fullmatch

WAIT = QueryParameter(
    "wait",
    "Seconds to wait for the job to finish. The answer comes when it has, or with the state at the end of the wait; "
    "the wait ends half a second before the time limit of the request, or a tenth of it when that is less.",
    TypeAdapter(Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS, allow_inf_nan=False)]),
)
STATUS = QueryParameter("status", "Only jobs with this status.", TypeAdapter(Status))
MODEL = QueryParameter(
    "model", "Only jobs of this model.", TypeAdapter(Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_]{1,64}$")])
)
LIMIT = QueryParameter(
    "limit", "Most jobs in the answer; 50 unless given.", TypeAdapter(Annotated[int, Field(ge=1, le=200)])
)
AFTER = QueryParameter(
    "after", "`next` of the page before.", TypeAdapter(Annotated[str, StringConstraints(min_length=1, max_length=200)])
)


class Limits:
    """How often and how long the jobs of a request may be tried, from the request or from the settings."""

    def __init__(self, jobs: JobsSettings, models: dict[str, ModelJobsSettings]) -> None:
        self._models = models
        self._max_retries = QueryParameter(
            "max_retries",
            "Attempts after the first, if it fails; the model's setting unless given.",
            TypeAdapter(Annotated[int, Field(ge=0, le=jobs.most_retries)]),
        )
        self._ttl_seconds = QueryParameter(
            "ttl_seconds",
            "Seconds from now; a job that has not begun by then expires. The model's setting unless given.",
            TypeAdapter(Annotated[float, Field(gt=0, le=jobs.longest_ttl_seconds, allow_inf_nan=False)]),
        )
        self.parameters = [self._max_retries.document(), self._ttl_seconds.document()]
        self.retry_parameters = [self._ttl_seconds.document()]

    def max_retries(self, exchange: Exchange, model: str) -> int:
        given = self._max_retries.read(exchange)
        return self._models[model].max_retries if given is None else given

    def ttl_seconds(self, exchange: Exchange, model: str) -> float:
        """Raises ConflictError for a job of a model that this service does not know."""
        given = self._ttl_seconds.read(exchange)
        if given is None and model not in self._models:
            raise ConflictError(f"{model} is not a model of this service: give ttl_seconds")
        return self._models[model].ttl_seconds if given is None else given


class JobsHandler:
    """What the routes do with the store."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self.store = store
        self._max_payload_bytes = settings.jobs.max_payload_bytes
        self._limits = make_limits(settings)
        self._waits: set[asyncio.Timeout] = set()
        self._draining = False

    async def submit(self, exchange: Exchange, model: str, encoded: Encoded) -> Job:
        """Hand a checked request to the store.

        Raises:
            PayloadTooLargeError: more than `jobs.max_payload_bytes`.
            ConflictError: the idempotency key was used for another request.
            OverloadedError, UnavailableError: as the store.
        """
        if len(encoded.payload) > self._max_payload_bytes:
            raise PayloadTooLargeError(
                f"a job may have {self._max_payload_bytes} bytes; this one has {len(encoded.payload)}"
            )
        key = _idempotency_key(exchange)
        new = NewJob(
            id=new_job_id(),
            model=model,
            payload=encoded.payload,
            parameters=encoded.parameters,
            max_retries=self._limits.max_retries(exchange, model),
            ttl_seconds=self._limits.ttl_seconds(exchange, model),
            # Hashing takes a tenth of what a submission does, and only a key that is met again is compared by it.
            fingerprint=fingerprint(model, encoded) if key else "",
            idempotency_key=key,
        )
        return (await self.store.submit(new)).job

    async def get(self, exchange: Exchange, job_id: str) -> Job:
        """The job, at once or after the wait that is asked for. A drain ends the wait, and so does the client.

        Raises:
            ClientDisconnect: the client has gone.
        """
        wait = WAIT.read(exchange)
        if not wait or self._draining:
            return await self.store.get(job_id)
        left = exchange.expires_in()
        timer = asyncio.timeout(None)
        try:
            async with while_connected(exchange.receive), timer:
                self._waits.add(timer)
                return await self.store.wait(job_id, min(wait, left - min(0.5, left / 10)))
        except TimeoutError:
            if not timer.expired():
                raise
            return await self.store.get(job_id)
        finally:
            self._waits.discard(timer)

    async def page(self, exchange: Exchange) -> bytes:
        found = await self.store.page(
            status=STATUS.read(exchange),
            model=MODEL.read(exchange),
            limit=LIMIT.read(exchange) or 50,
            after=AFTER.read(exchange),
        )
        return documents.page(found)

    async def retry(self, exchange: Exchange, job_id: str) -> Job:
        job = await self.store.get(job_id)
        return await self.store.retry(job_id, ttl_seconds=self._limits.ttl_seconds(exchange, job.model))

    def drain(self) -> None:
        """Answer the requests that wait: the server is about to stop, and any other replica can go on."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for timer in self._waits:
            timer.reschedule(now)


def make_limits(settings: Settings) -> Limits:
    return Limits(settings.jobs, {name: entry.jobs for name, entry in settings.models.items()})


def _idempotency_key(exchange: Exchange) -> str | None:
    given = [value.decode("latin-1") for name, value in exchange.scope["headers"] if name == _KEY_HEADER]
    if not given:
        return None
    if len(given) > 1 or not _valid_key(given[0]):
        raise InvalidInputError(f"{KEY_HEADER}: one value of 1 to 255 visible ASCII characters is required")
    return given[0]
