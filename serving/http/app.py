"""The BentoML service class of the API: BentoML's server with this project's errors, documents and limits.

BentoML offers `service_class` and builds the ASGI application in `to_asgi`. Its own endpoint wrapper logs a
traceback for every bad request and answers in several shapes, and its stock middleware labels metrics with raw
paths and leaves a timer behind for each request; both are replaced here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response

from serving.bento.server import LeanAppFactory
from serving.core.errors import ServingError
from serving.http import errors
from serving.http.deadline import deadline
from serving.http.openapi import Document, document
from serving.http.request import CLIENT_LEFT


class ApiAppFactory(LeanAppFactory):
    """The entry service's application."""

    def __call__(self) -> Starlette:
        app: Starlette = super().__call__()
        errors.add_error_handlers(app)
        return app

    async def api_endpoint_wrapper(self, name: str, request: Request) -> Response:
        """Run one declared method within the time limit; every exception becomes an answer in our shape."""
        try:
            async with deadline():
                response: Response = await self.api_endpoint(name, request)
        except ValidationError as error:
            response = errors.error_response(errors.from_validation(error))
        except HTTPException as error:
            response = await errors.handle_http_exception(request, error)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_LEFT)
        except ServingError as error:
            response = errors.error_response(error)
        except BentoMLException as error:
            if error.error_code.value >= 500:
                raise
            response = errors.error_response(
                errors.from_http(HTTPException(error.error_code.value, str(error)), request.url.path)
            )
        context = self.service.context.response
        context.background.add_task(request.close)
        response.background = context.background
        del context.background  # BentoML does the same: it would keep the request alive
        return response

    async def index_page(self, _request: Request) -> Response:
        return HTMLResponse((Path(__file__).parent / "index.html").read_text())


class ApiService(bentoml.Service[Any]):
    """The entry service."""

    def to_asgi(self, is_main: bool = True) -> Starlette:
        self.inject_config()
        return ApiAppFactory(self, is_main=is_main)()

    @property
    def openapi_spec(self) -> Document:
        return document(self)
