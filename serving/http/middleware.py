"""Every request gets an id, a time, metrics, and (a prediction) a log line."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from time import perf_counter

from prometheus_client import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.errors import error_response, internal_error
from serving.http.request import CLIENT_LEFT, SCOPE_KEY, RequestRecord, current_request
from serving.metrics import Metrics
from serving.metrics.prediction_log import log_prediction

error_logger = logging.getLogger("serving.error")

UNMATCHED = "<unmatched>"
_ID_HEADER = b"x-request-id"
_valid_id = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


class Routes:
    """The templates of all routes, which metrics are labelled with, and which of them predict.

    Args:
        templates: such as `/jobs/{job_id}`. A parameter has no `/` and no `:` in it.
        models: tag of the model for each template that answers predictions.
        frequent: templates of paths that are found without trying one after the other.
    """

    def __init__(
        self, templates: Iterable[str], models: Mapping[str, str], *, frequent: Mapping[str, str] | None = None
    ) -> None:
        self.models = dict(models)
        self._exact: dict[str, str] = dict(frequent or {})
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for template in templates:
            if "{" in template:
                pattern = re.sub(r"\\{[^}]*\\}", "[^/:]+", re.escape(template))
                self._patterns.append((re.compile(pattern), template))
            else:
                self._exact[template] = template

    def template(self, path: str) -> str:
        """The template that `path` matches, or `UNMATCHED`."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((name for pattern, name in self._patterns if pattern.fullmatch(path)), UNMATCHED)


class RequestMiddleware:
    """Outermost pure ASGI middleware of the API.

    Takes `X-Request-ID` from the request or makes one, returns it, measures, counts and logs. `state` is
    called once, at the first request: what it returns exists only after the service has started.
    """

    def __init__(self, app: ASGIApp, *, state: Callable[[], tuple[Metrics, Routes]], log_predictions: bool) -> None:
        self.app = app
        self._state = cache(state)
        self._log = log_predictions
        self._gauges: dict[str, Gauge] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        metrics, routes = self._state()
        request_id = next((value for name, value in scope["headers"] if name == _ID_HEADER), None)
        if request_id is None or not _valid_id(request_id):
            # Unique, not secret: the generator is seeded from the system for each process.
            request_id = b"%032x" % random.getrandbits(128)
        endpoint = routes.template(scope["path"])
        record = RequestRecord(request_id.decode("ascii"), scope, receive)
        scope[SCOPE_KEY] = record
        token = current_request.set(record)
        gauge = self._gauges.get(endpoint)
        if gauge is None:
            gauge = self._gauges[endpoint] = metrics.in_progress(endpoint)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_ID_HEADER, request_id)]
            await send(message)

        gauge.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:  # the last place that knows the request: log it, answer, go on
            error_logger.exception("%s failed request_id=%s", endpoint, record.id)
            if record.status == CLIENT_LEFT:
                await error_response(internal_error())(scope, receive, send_with_id)
        finally:
            gauge.dec()
            current_request.reset(token)
            # The record knows the scope: left in it, every request would be a cycle for the garbage collector.
            del scope[SCOPE_KEY]
            seconds = perf_counter() - started
            metrics.answered(endpoint, record.status, seconds)
            if self._log and (model := record.model or routes.models.get(endpoint)) is not None:
                log_prediction(
                    endpoint, status=record.status, model=model, size=record.size, seconds=seconds, request_id=record.id
                )
