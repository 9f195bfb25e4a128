"""The batch routes: rows that are scored later, and the runs that score them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from serving.codecs.schemas import array_of, object_of
from serving.http import batch_documents as documents
from serving.http.batch_handler import AFTER, LIMIT, STATUS, BatchHandler
from serving.http.deadline import timed
from serving.http.exchange import Answer, Exchange
from serving.http.operations import Schema, operation
from serving.http.parameters import refuse_unknown
from serving.http.routes import Route
from serving.model import Models

# Anything else is no path of a row.
_ITEM_ID = {"item_id": "[0-9]{1,19}"}
_ID_PARAMETER = {
    "name": "item_id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_PAGE_PARAMETERS = (STATUS, LIMIT, AFTER)
_ERRORS = (429, 500, 503, 504)
_operation = partial(operation, tag="batch", timed=True)


def batch_routes(models: Models, handler: Callable[[], BatchHandler]) -> list[Route]:
    """The batch routes; `handler` is asked at each request."""
    new_items = _new_items(models)

    async def list_items(exchange: Exchange) -> Answer:
        refuse_unknown(exchange, *(each.name for each in _PAGE_PARAMETERS))
        return Answer(await handler().items(exchange))

    async def add_items(exchange: Exchange) -> Answer:
        refuse_unknown(exchange)
        return Answer(await handler().add(exchange), 201)

    async def get_item(exchange: Exchange) -> Answer:
        refuse_unknown(exchange)
        return Answer(await handler().item(int(exchange.parameters["item_id"])))

    async def list_runs(exchange: Exchange) -> Answer:
        refuse_unknown(exchange, LIMIT.name, AFTER.name)
        return Answer(await handler().runs(exchange))

    return [
        Route(
            "GET",
            "/batch/items",
            timed(list_items),
            _operation(
                "list_batch_items",
                "Rows in the order of their ids.",
                description="One page.",
                answer=documents.ItemPage,
                errors=(*_ERRORS, 400),
                parameters=[each.document() for each in _PAGE_PARAMETERS],
            ),
        ),
        Route(
            "POST",
            "/batch/items",
            timed(add_items),
            _operation(
                "add_batch_items",
                "Add rows, to be scored by the next run.",
                status=201,
                description="The database has them, all of them.",
                answer=documents.AddedItems,
                errors=(*_ERRORS, 400, 413, 415),
                body={"application/json": new_items},
            ),
        ),
        Route(
            "GET",
            "/batch/items/{item_id}",
            timed(get_item),
            _operation(
                "get_batch_item",
                "A row, and what has come of it.",
                description="The row.",
                answer=documents.Item,
                errors=(*_ERRORS, 400, 404),
                parameters=[_ID_PARAMETER],
            ),
            _ITEM_ID,
        ),
        Route(
            "GET",
            "/batch/runs",
            timed(list_runs),
            _operation(
                "list_batch_runs",
                "Runs of `serving batch score`, newest first.",
                description="One page.",
                answer=documents.RunPage,
                errors=(*_ERRORS, 400),
                parameters=[LIMIT.document(), AFTER.document()],
            ),
        ),
    ]


def _new_items(models: Models) -> Schema:
    """Rows to add: each has the name of a model, and values as that model takes them."""
    items = [
        object_of({"model": {"type": "string", "const": model.name}, "values": model.codec.operation().row})
        for model in models
    ]
    bounds = {"minItems": 1, "maxItems": documents.MOST_ITEMS}
    return Schema("NewItems", object_of({"items": array_of({"oneOf": items}) | bounds}))
