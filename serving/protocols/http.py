"""What the routes of the standard protocols share: time limits, and how the OpenAPI document shows them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import BaseModel, Field

from serving.http.deadline import deadline
from serving.http.disconnect import while_connected
from serving.http.exchange import TIMEOUT_HEADER, Answer, Exchange
from serving.http.operations import operation
from serving.model import Model, Models

INFERENCE_ERRORS = (400, 404, 413, 415, 429, 500, 503, 504)


class ProtocolError(BaseModel):
    """The body of every answer of a standard protocol that is not a 2xx."""

    error: str = Field(description="what to change, for people")


async def answer_body(exchange: Exchange, model: Model, answer: Callable[[bytes], Awaitable[Answer]]) -> Answer:
    """Answer a request for a prediction, within the time limit and as long as the client is there.

    Where a prediction is computed at once nothing can be given up half-way, so that neither is watched.
    """
    here = model.computes_here(batched=model.batches_protocols)
    if here and exchange.header(TIMEOUT_HEADER) is None:
        return await answer(await exchange.body())
    async with deadline(exchange):
        if not here:
            # Under overload most requests end here, before the time and memory that their bodies take.
            model.admission.check()
        body = await exchange.body()
        async with while_connected(exchange.receive):
            return await answer(body)


def model_parameter(models: Models) -> dict[str, Any]:
    """The parameter of a path that names a model."""
    names = [model.name for model in models]
    return {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": names}}


def protocol_operation(name: str, summary: str, *, errors: Iterable[int], **more: Any) -> dict[str, Any]:
    """As `serving.http.operations.operation`, with the protocols' shape of errors."""
    return operation(name, summary, errors=errors, error=ProtocolError, **more)
