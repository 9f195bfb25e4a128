"""The batch routes: rows that are scored later, and the runs that score them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bentoml
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from serving.http import batch_documents as documents
from serving.http.batch_handler import AFTER, LIMIT, STATUS, BatchHandler
from serving.http.deadline import deadline
from serving.http.mounted import make_mounted_app
from serving.http.openapi import TIMEOUT_PARAMETER, error_responses
from serving.http.parameters import refuse_unknown


class _ItemId(StringConvertor):
    """What can be the id of a row; anything else is no path of one."""

    regex = "[0-9]{1,19}"


register_url_convertor("batch_item_id", _ItemId())

_ID_PARAMETER = {
    "name": "item_id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}


def _current() -> BatchHandler:
    batch: BatchHandler = bentoml.get_current_service().batch
    return batch


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _declare(statuses: tuple[int, ...], answer: type[BaseModel], *parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": ["batch"],
        "response_model": answer,
        "responses": error_responses((429, 500, 503, 504, *statuses)),
        "openapi_extra": {"parameters": [TIMEOUT_PARAMETER, *parameters]},
    }


def make_batch(current: Callable[[], BatchHandler] = _current) -> FastAPI:
    """The batch routes as an app to mount; `current` is asked at each request for what answers them."""
    app = make_mounted_app()
    # decoded in a thread, so that FastAPI does not know of it
    app.state.bodies = [documents.NewItems]
    _add_items(app, current)

    @app.get(
        "/batch/runs",
        response_description="One page.",
        summary="Runs of `serving batch score`, newest first.",
        **_declare((400,), documents.RunPage, LIMIT.document(), AFTER.document()),
    )
    async def list_batch_runs(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request, LIMIT.name, AFTER.name)
            return _json(await current().runs(request))

    return app


def _add_items(app: FastAPI, current: Callable[[], BatchHandler]) -> None:
    @app.get(
        "/batch/items",
        response_description="One page.",
        summary="Rows in the order of their ids.",
        **_declare((400,), documents.ItemPage, *(each.document() for each in (STATUS, LIMIT, AFTER))),
    )
    async def list_batch_items(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request, STATUS.name, LIMIT.name, AFTER.name)
            return _json(await current().items(request))

    declared = _declare((400, 413, 415), documents.AddedItems)
    declared["openapi_extra"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewItems"}}},
    }

    @app.post(
        "/batch/items",
        status_code=201,
        response_description="The database has them, all of them.",
        summary="Add rows, to be scored by the next run.",
        **declared,
    )
    async def add_batch_items(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request)
            return _json(await current().add(request), 201)

    @app.get(
        "/batch/items/{item_id:batch_item_id}",
        response_description="The row.",
        summary="A row, and what has come of it.",
        **_declare((400, 404), documents.Item, _ID_PARAMETER),
    )
    async def get_batch_item(request: Request) -> Response:
        async with deadline():
            refuse_unknown(request)
            return _json(await current().item(int(request.path_params["item_id"])))
