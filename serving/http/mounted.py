"""The FastAPI applications that are mounted into the service, one for each part of the API."""

from __future__ import annotations

from fastapi import FastAPI

from serving.http.errors import add_error_handlers


def make_mounted_app() -> FastAPI:
    """Without documents of its own: BentoML merges those of all mounted applications.

    Requests try the routes one after the other, those of the service first and then each application's in the order of
    mounting. So what has to be quick is an application of its own, mounted early.
    """
    app = FastAPI(title="model_serving", openapi_url=None, generate_unique_id_function=lambda route: route.name)
    add_error_handlers(app)
    return app
