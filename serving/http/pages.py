"""The GET routes: metadata, labels, health, metrics, the inventory, the page and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import BaseModel

from serving.http.description import ModelDescription, describe
from serving.http.exchange import Answer, Exchange
from serving.http.operations import operation
from serving.http.predict import Predict
from serving.http.routes import Route
from serving.inventory import Inventory, running_inventory
from serving.metrics import Metrics
from serving.model import Model

_INFRASTRUCTURE = "infrastructure"
_HTML = ((b"content-type", b"text/html; charset=utf-8"),)
_encode = msgspec.json.encode


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    health: Literal["ok"] = "ok"


def labels_by_id(model: Model) -> dict[str, str]:
    """Class names by class id, as `/{model}/label` answers them."""
    return {str(index): label for index, label in enumerate(model.metadata.labels)}


class Metadata:
    """Answers `/{model}/metadata`. The sample answer is a real one, asked of the model once."""

    def __init__(self, model: Model, predict: Predict) -> None:
        self._model = model
        self._predict = predict
        self._timed = not model.computes_here(batched=False)
        self._body = b""

    async def __call__(self, exchange: Exchange) -> Answer:
        if self._timed:
            exchange.time_limit()  # a wrong one is refused whether there is anything to wait for or not
        if not self._body:
            sample = await self._predict.test(exchange)
            exchange.model = None  # no prediction of the caller's, so that it is not logged as one
            self._body = describe(self._model, sample.body).model_dump_json().encode()
        return Answer(self._body)


def metadata_operation(name: str, model: str, errors: tuple[int, ...], *, timed: bool) -> dict[str, Any]:
    return operation(
        name,
        f"Version, origin, inputs and outputs of the model {model}.",
        tag=model,
        answer=ModelDescription,
        errors=errors,
        timed=timed,
    )


def server_routes(
    metrics: Callable[[], Metrics], document: Callable[[], dict[str, Any]], schema: Callable[[], dict[str, Any]]
) -> list[Route]:
    """The routes that are not a model's.

    Args:
        document: makes the OpenAPI document.
        schema: makes what BentoML's client asks for.
    """

    async def health(_exchange: Exchange) -> Answer:
        return Answer(Health().model_dump_json().encode())

    async def exposition(_exchange: Exchange) -> Answer:
        content, media_type = await asyncio.to_thread(metrics().render)
        return Answer(content, headers=((b"content-type", media_type.encode()),))

    async def inventory(_exchange: Exchange) -> Answer:
        found = await asyncio.to_thread(running_inventory)
        return Answer(found.model_dump_json().encode())

    async def page(exchange: Exchange) -> Answer:
        """The page for browsers, which name HTML; what KServe's clients ask of a V1 server for everybody else."""
        if b"text/html" not in (exchange.header(b"accept") or b""):
            return Answer(_encode({"status": "alive"})).add("vary", "accept")
        return Answer((Path(__file__).parent / "index.html").read_bytes(), headers=_HTML).add("vary", "accept")

    async def openapi(_exchange: Exchange) -> Answer:
        return Answer(await asyncio.to_thread(lambda: _encode(document())))

    async def client_schema(_exchange: Exchange) -> Answer:
        return Answer(_encode(schema()))

    text = {"text/plain": {"schema": {"type": "string"}}}
    return [
        Route("GET", "/", page, {}),
        Route("GET", "/docs.json", openapi, {}),
        Route("GET", "/schema.json", client_schema, {}),
        Route(
            "GET",
            "/health",
            health,
            operation("health", "The process answers.", tag=_INFRASTRUCTURE, answer=Health),
        ),
        Route(
            "GET",
            "/metrics",
            exposition,
            operation(
                "metrics",
                "Prometheus metrics of all processes of this server.",
                tag=_INFRASTRUCTURE,
                answer_types=text,
            ),
        ),
        Route(
            "GET",
            "/inventory",
            inventory,
            operation(
                "inventory",
                "What runs: system, CPU, Python, libraries, engines, and models with their hashes.",
                tag=_INFRASTRUCTURE,
                answer=Inventory,
            ),
        ),
        *_bentoml_routes(),
    ]


def _bentoml_routes() -> list[Route]:
    """What BentoML's application answers."""
    text = {"text/plain": {"schema": {"type": "string"}}}
    meanings = {
        "/livez": "The process answers.",
        "/healthz": "The process answers; another name for `/livez`.",
        "/readyz": "Every model answers its `/predict`, and the server is not draining.",
    }
    return [
        *(
            Route(
                "GET",
                path,
                None,
                operation(
                    path[1:],
                    meaning,
                    tag=_INFRASTRUCTURE,
                    description="Yes.",
                    answer_types=text,
                    errors=(503,) if path == "/readyz" else (),
                ),
            )
            for path, meaning in meanings.items()
        ),
        Route("GET", "/static_content/{file}", None, {}, {"file": ".+"}),
    ]
