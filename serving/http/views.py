"""The GET routes: metadata, labels, built-in checks, health, metrics."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import bentoml
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from serving.http.deadline import deadline
from serving.http.description import ModelDescription
from serving.http.mounted import make_mounted_app
from serving.http.openapi import RUNNER_ERRORS, TIMEOUT_PARAMETER, error_responses
from serving.http.schemas import Classification, ImageLabel, IrisLabels, IrisProbabilities
from serving.inventory import Inventory, running_inventory
from serving.store.models import StoredModel


async def current_service() -> Any:
    """The service of this process; async, as FastAPI would call a plain function in a thread."""
    return bentoml.get_current_service()


Service = Annotated[Any, Depends(current_service)]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


def labels_by_id(model: StoredModel) -> dict[str, str]:
    """Class names by class id, as `/{model}/label` answers them."""
    return {str(index): label for index, label in enumerate(model.metadata.labels)}


def make_views(*, iris: bool, inception_v3: bool) -> FastAPI:
    """The GET routes of the models that are served, as an app to mount; no documents of its own."""
    app = make_mounted_app()

    @app.get("/health", tags=["infrastructure"])
    async def health() -> Health:
        """The process answers."""
        return Health()

    @app.get("/metrics", tags=["infrastructure"], response_class=Response)
    def metrics(service: Service) -> Response:
        """Prometheus metrics of all processes of this server."""
        content, media_type = service.metrics.render()
        return Response(content, media_type=media_type)

    @app.get("/inventory", tags=["infrastructure"])
    def inventory() -> Inventory:
        """What exactly is running: system, CPU, Python, libraries, engines, and models with their hashes."""
        return running_inventory()

    if iris:
        _iris_views(app)
    if inception_v3:
        _inception_v3_views(app)
    for route in app.routes:
        if isinstance(route, APIRoute):
            # In one line under the path; FastAPI would put the function's name there.
            route.summary, route.description = route.description, ""
    return app


def _iris_views(app: FastAPI) -> None:
    @app.get("/iris/metadata", tags=["iris"])
    async def iris_metadata(service: Service) -> ModelDescription:
        """Version, origin, inputs and outputs of the iris model."""
        return service.iris.description

    @app.get("/iris/label", tags=["iris"])
    async def iris_label(service: Service) -> dict[str, str]:
        """Species by class id."""
        return labels_by_id(service.iris.model)

    @app.get("/iris/predict/test", tags=["iris"])
    async def iris_predict_test(service: Service) -> IrisProbabilities:
        """Predict the built-in sample: what a deployment check calls."""
        return service.iris.predict(service.iris.sample)

    @app.get("/iris/predict/test/label", tags=["iris"])
    async def iris_predict_test_label(service: Service) -> IrisLabels:
        """Name the species of the built-in sample."""
        return service.iris.predict_labels(service.iris.sample)


def _inception_v3_views(app: FastAPI) -> None:
    asks_runner: dict[str, Any] = {
        "responses": error_responses(RUNNER_ERRORS),
        "openapi_extra": {"parameters": [TIMEOUT_PARAMETER]},
        "tags": ["inception_v3"],
    }

    @app.get("/inception_v3/metadata", **asks_runner)
    async def inception_v3_metadata(service: Service) -> ModelDescription:
        """Version, origin, inputs and outputs of the InceptionV3 model."""
        async with deadline():
            return await service.inception_v3.describe()

    @app.get("/inception_v3/label", tags=["inception_v3"])
    async def inception_v3_label(service: Service) -> dict[str, str]:
        """Class names by class id."""
        return labels_by_id(service.inception_v3.model)

    @app.get("/inception_v3/predict/test", **asks_runner)
    async def inception_v3_predict_test(service: Service) -> Classification:
        """Classify the built-in sample image: what a deployment check calls."""
        async with deadline():
            return await service.inception_v3.classify(service.inception_v3.sample)

    @app.get("/inception_v3/predict/test/label", **asks_runner)
    async def inception_v3_predict_test_label(service: Service) -> ImageLabel:
        """Name the most probable class of the built-in sample image."""
        async with deadline():
            return await service.inception_v3.label(service.inception_v3.sample)
