"""The ASGI application in front of BentoML's: every request gets an id, a route, a time, metrics and a log line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from time import perf_counter

from prometheus_client import Gauge
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.core.errors import MethodNotAllowedError, NotFoundError, ServingError
from serving.http.errors import REQUEST_ID_KEY, error_answer, internal_error
from serving.http.exchange import CLIENT_LEFT, ID_HEADER, Answer, Exchange
from serving.http.routes import UNMATCHED, Routes
from serving.metrics import Metrics
from serving.metrics.prediction_log import log_prediction

_CLOSE = (b"connection", b"close")
error_logger = logging.getLogger("serving.error")


@dataclass(frozen=True, slots=True)
class HttpState:
    """What exists only after the service has started."""

    routes: Routes
    metrics: Metrics
    draining: Callable[[], bool] = lambda: False
    """Whether the server is stopping, so that an answer is the last on its connection."""


class Application:
    """ASGI middleware: answers the routes of the table and passes BentoML's own on.

    Takes `X-Request-ID` from the request or makes one, returns it, measures, counts and logs.

    Args:
        app: BentoML's application.
        state: called once, at the first request.
        max_bytes: of a request's body.
        time_limit: seconds that a request may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        state: Callable[[], HttpState],
        max_bytes: int,
        time_limit: float,
        log_predictions: bool,
    ) -> None:
        self.app = app
        self._state = cache(state)
        self._max_bytes = max_bytes
        self._time_limit = time_limit
        self._log = log_predictions
        self._gauges: dict[str, Gauge] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        state = self._state()
        exchange = Exchange(scope, receive, max_bytes=self._max_bytes, time_limit=self._time_limit)
        endpoint = UNMATCHED
        gauge: Gauge | None = None
        try:
            try:
                match = state.routes.find(scope["method"], _path(scope))
                endpoint = match.route.path
            finally:
                # Wherever it is sent to, a body that is too large is not waited for.
                exchange.check_length()
            gauge = self._gauge(state.metrics, endpoint)
            gauge.inc()
            if match.route.handler is None:
                await self._pass_on(exchange, send)
                return
            exchange.parameters = match.parameters
            await self._send(await match.route.handler(exchange), exchange, send)
        except ClientDisconnect:
            pass
        except ServingError as error:
            if scope["method"] == "OPTIONS" and isinstance(error, MethodNotAllowedError):
                answer = Answer(b"", headers=()).add("allow", error.allowed)
            else:
                answer = error_answer(error, path=scope["path"], request_id=exchange.id)
            await self._send(answer, exchange, send)
        except Exception:  # the last place that knows the request: log it, answer, go on
            error_logger.exception("%s failed request_id=%s", endpoint, exchange.id)
            if exchange.status == CLIENT_LEFT:
                answer = error_answer(internal_error(), path=scope["path"], request_id=exchange.id)
                await self._send(answer, exchange, send)
        finally:
            if gauge is not None:
                gauge.dec()
            seconds = perf_counter() - started
            state.metrics.answered(endpoint, exchange.status, seconds)
            if self._log and exchange.model is not None:
                log_prediction(
                    endpoint,
                    status=exchange.status,
                    model=exchange.model,
                    size=exchange.size,
                    seconds=seconds,
                    request_id=exchange.id,
                )
        await self._end(exchange, send)

    def _gauge(self, metrics: Metrics, endpoint: str) -> Gauge:
        gauge = self._gauges.get(endpoint)
        if gauge is None:
            gauge = self._gauges[endpoint] = metrics.in_progress(endpoint)
        return gauge

    async def _send(self, answer: Answer, exchange: Exchange, send: Send) -> None:
        exchange.status = answer.status
        if self._state().draining() and _CLOSE not in answer.headers:
            answer.headers.append(_CLOSE)
        answer.headers.append((b"content-length", b"%d" % len(answer.body)))
        answer.headers.append((ID_HEADER, exchange.id.encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        exchange.is_last = _CLOSE in answer.headers
        await send(
            {"type": "http.response.body", "body": answer.body, "more_body": exchange.is_last and not exchange.is_read}
        )

    @staticmethod
    async def _end(exchange: Exchange, send: Send) -> None:
        """Close the connection only once the client has sent its body, or does not go on with it."""
        if exchange.is_last and not exchange.is_read:
            await exchange.discard()
            await send({"type": "http.response.body"})

    async def _pass_on(self, exchange: Exchange, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                last = [_CLOSE] if self._state().draining() else []
                message["headers"] = [*message.get("headers", ()), (ID_HEADER, exchange.id.encode()), *last]
            await send(message)

        exchange.scope[REQUEST_ID_KEY] = exchange.id
        await self.app(exchange.scope, exchange.receive, send_with_id)


def _path(scope: Scope) -> str:
    """The path that routes are found by.

    Raises:
        NotFoundError: a slash is escaped and so part of a name (RFC 3986, section 2.2); no route has such names.
    """
    path: str = scope["path"]
    raw = scope["raw_path"]
    if b"%" in raw and b"%2f" in raw.lower():
        raise NotFoundError(f"there is no {path} with an escaped slash; see / for the routes")
    return path
