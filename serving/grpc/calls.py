"""What every unary call has, whichever protocol: an id, a time limit, metrics, a log line, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from opentelemetry import propagate, trace

from serving.core.errors import DeadlineExceededError, MalformedRequestError, ServingError
from serving.grpc.messages import POOL, message
from serving.grpc.status import CODE, trailing
from serving.grpc.wire import check_fields
from serving.http.errors import STATUS, internal_error
from serving.http.request import CLIENT_LEFT
from serving.metrics import Metrics
from serving.metrics.prediction_log import log_prediction

error_logger = logging.getLogger("serving.error")
_tracer = trace.get_tracer("serving.grpc")

REQUEST_ID = "x-request-id"
_valid_id = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_SAME_MOMENT_SECONDS = 0.02


class GrpcCall:
    """One call: what a model wants to know of it, and what it leaves for the log."""

    __slots__ = ("deadline", "id", "model", "size")

    def __init__(self, call_id: str, deadline: float) -> None:
        self.id = call_id
        self.deadline = deadline
        """When the time limit ends, on the monotonic clock."""
        self.size = "-"
        self.model: str | None = None
        """Tag of the model that predicts; only such calls are logged."""

    def expires_in(self) -> float:
        return self.deadline - time.monotonic()


Handle = Callable[[Any, GrpcCall], Awaitable[Any]]


class Calls:
    """Makes methods of a service out of functions from request and call to response.

    Args:
        timeout_seconds: the time limit of a call; the client's deadline lowers it.
        traced: make a span of each call, below the client's where it sends one.
    """

    def __init__(
        self, metrics: Metrics, *, timeout_seconds: float, log_predictions: bool, traced: bool = False
    ) -> None:
        self._metrics = metrics
        self._traced = traced
        self._timeout_seconds = timeout_seconds
        self._log = log_predictions

    def service(self, name: str, methods: Mapping[str, Handle]) -> grpc.GenericRpcHandler[bytes, bytes]:
        """The handler of a service of `serving.grpc.messages`, with some or all of its methods."""
        described = POOL.FindServiceByName(name).methods_by_name
        return grpc.method_handlers_generic_handler(
            name,
            {
                method: self._method(f"/{name}/{method}", handle, message(described[method].input_type.full_name))
                for method, handle in methods.items()
            },
        )

    def _method(self, endpoint: str, handle: Handle, request_type: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        gauge = self._metrics.in_progress(endpoint)

        async def answer(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            started = perf_counter()
            limit = self._timeout_seconds
            remaining = context.time_remaining()
            if remaining is not None and remaining < limit:
                limit = remaining
            call = GrpcCall(_id(context), time.monotonic() + limit)
            error: ServingError | None = None
            status = CLIENT_LEFT
            gauge.inc()
            try:
                async with asyncio.timeout(limit):
                    response: bytes = (await handle(_decoded(request_type, body), call)).SerializeToString()
                status = 200
            except ServingError as raised:
                error = raised
            except TimeoutError:
                error = DeadlineExceededError(f"not answered within {limit:g} seconds")
            except asyncio.CancelledError:
                # A client's deadline ends its call here too, and may come first by a moment.
                if call.expires_in() < _SAME_MOMENT_SECONDS:
                    status = STATUS[DeadlineExceededError]
                raise
            except Exception:  # the last place that knows the call: log it, answer, go on
                error_logger.exception("%s failed request_id=%s", endpoint, call.id)
                error = internal_error()
            finally:
                gauge.dec()
                if error is not None:
                    status = STATUS[type(error)]
                self._note(endpoint, status, call, perf_counter() - started)
            metadata = ((REQUEST_ID, call.id),)
            if error is not None:
                text = error.message if status < 500 else f"{error.message} (request id {call.id})"
                await context.abort(CODE[type(error)], text, (*metadata, *trailing(error)))
            context.set_trailing_metadata(metadata)
            return response

        async def traced(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            sent = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
            parent = propagate.extract(sent)
            # Whatever is raised is how gRPC ends a call, and no exception of interest.
            with _tracer.start_as_current_span(
                endpoint, parent, trace.SpanKind.SERVER, {"rpc.system": "grpc"}, record_exception=False
            ):
                return await answer(body, context)

        # Bytes in and out: what cannot be decoded is the client's fault, and gRPC would call it an internal error.
        return grpc.unary_unary_rpc_method_handler(traced if self._traced else answer)

    def _note(self, endpoint: str, status: int, call: GrpcCall, seconds: float) -> None:
        self._metrics.answered(endpoint, status, seconds)
        if self._log and call.model is not None:
            log_prediction(
                endpoint, status=status, model=call.model, size=call.size, seconds=seconds, request_id=call.id
            )


def _decoded(request_type: Any, body: bytes) -> Any:
    check_fields(body, request_type)
    try:
        return request_type.FromString(body)
    except DecodeError as error:
        raise MalformedRequestError("the message cannot be decoded") from error


def _id(context: grpc.aio.ServicerContext[bytes, bytes]) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == REQUEST_ID and isinstance(value, str) and _valid_id(value):
            return value
    # Unique, not secret: the generator is seeded from the system for each process.
    return f"{random.getrandbits(128):032x}"
