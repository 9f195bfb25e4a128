"""The routes of each model, and of the default model without its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from serving.codecs.base import Operation
from serving.http.exchange import Answer, Exchange, Handler
from serving.http.operations import Schema, operation
from serving.http.pages import Metadata, labels_by_id, metadata_operation
from serving.http.predict import Predict
from serving.http.routes import Route
from serving.model import Model

JSON_ERRORS = (400, 413, 415, 500, 504)
WAITING_ERRORS = (400, 429, 500, 503, 504)
"""Of what waits for a runner or for a thread."""


class ModelSchemas:
    """The schemas of one model's requests and answers, named by the model."""

    def __init__(self, name: str, described: Operation) -> None:
        title = "".join(part.capitalize() for part in name.split("_"))
        self.parameters = described.parameters
        self.request: Mapping[str, Schema | Mapping[str, Any]] = {
            kind: _named(f"{title}Request", f"A request to the model {name}.", content["schema"])
            if kind == "application/json"
            else content["schema"]
            for kind, content in described.content.items()
        }
        self.answer = _named(f"{title}Prediction", f"What the model {name} predicts.", described.answer)
        self.label = (
            None
            if described.label is None
            else _named(f"{title}Label", f"The most probable class that the model {name} knows.", described.label)
        )
        # Ranking is of no use to a caller who asks for one label.
        self.label_request: Mapping[str, Schema | Mapping[str, Any]] = {
            kind: _named(f"{title}LabelRequest", f"A request for a label to the model {name}.", without)
            if kind == "application/json"
            else without
            for kind, content in described.content.items()
            for without in [_without_top_k(content["schema"])]
        }
        if not described.parameters:
            self.label_request = self.request


def model_routes(model: Model) -> list[Route]:
    """The routes of a model that predict and describe."""
    return _routes(model, ModelSchemas(model.name, model.codec.operation()), f"/{model.name}", f"{model.name}_")


def default_routes(model: Model) -> list[Route]:
    """The routes without a model's name: the paths that a server of one model has. They ask `model`."""
    schemas = ModelSchemas(model.name, model.codec.operation())
    wanted = {"/predict", "/predict/label", "/predict/test", "/predict/test/label", "/metadata", "/label"}
    return [route for route in _routes(model, schemas, "", "") if route.path in wanted]


def _routes(model: Model, schemas: ModelSchemas, prefix: str, name: str) -> list[Route]:
    predict = Predict(model)
    waits = not model.computes_here(batched=False)
    errors = (*JSON_ERRORS, *(WAITING_ERRORS if waits else ()))
    test_errors = WAITING_ERRORS if waits else (500,)

    def predicts(path: str, handler: Handler, suffix: str, summary: str, *, batched: bool = False) -> Route:
        label = suffix.endswith("label")
        return Route(
            "POST",
            f"{prefix}{path}",
            handler,
            operation(
                f"{name}{suffix}",
                summary,
                tag=model.name,
                description="The prediction.",
                answer=schemas.label if label else schemas.answer,
                errors=(*JSON_ERRORS, *WAITING_ERRORS) if batched else errors,
                parameters=[] if label else schemas.parameters,
                timed=True,
                body=schemas.label_request if label else schemas.request,
            ),
        )

    def tests(path: str, handler: Handler, suffix: str, summary: str) -> Route:
        return Route(
            "GET",
            f"{prefix}{path}",
            handler,
            operation(
                f"{name}{suffix}",
                summary,
                tag=model.name,
                description="The prediction.",
                answer=schemas.label if suffix.endswith("label") else schemas.answer,
                errors=test_errors,
                timed=waits,
            ),
        )

    routes = [
        predicts("/predict", predict, "predict", f"Predict with the model {model.name}."),
        predicts(
            "/predict/batched",
            Predict(model, batched=True),
            "predict_batched",
            f"As `{prefix}/predict`, in one engine call with the requests that arrive at the same time.",
            batched=True,
        ),
        tests(
            "/predict/test",
            predict.test,
            "predict_test",
            "Predict the built-in sample: what a deployment check calls.",
        ),
        Route(
            "GET",
            f"{prefix}/metadata",
            Metadata(model, predict),
            metadata_operation(f"{name}metadata", model.name, test_errors, timed=waits),
        ),
    ]
    if model.codec.has_labels:
        label = Predict(model, label=True)
        routes += [
            predicts("/predict/label", label, "predict_label", "Name the most probable class."),
            tests(
                "/predict/test/label",
                label.test,
                "predict_test_label",
                "Name the most probable class of the built-in sample.",
            ),
            Route(
                "GET",
                f"{prefix}/label",
                _labels(model),
                operation(
                    f"{name}label",
                    "Class names by class id.",
                    tag=model.name,
                    answer={"type": "object", "additionalProperties": {"type": "string"}},
                ),
            ),
        ]
    return routes


def _labels(model: Model) -> Handler:
    body = msgspec.json.encode(labels_by_id(model))

    async def label(_exchange: Exchange) -> Answer:
        return Answer(body)

    return label


def _named(name: str, description: str, schema: Mapping[str, Any]) -> Schema:
    return Schema(name, {"description": description, **schema})


def _without_top_k(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "properties" not in schema:
        return dict(schema)
    return {**schema, "properties": {name: each for name, each in schema["properties"].items() if name != "top_k"}}
