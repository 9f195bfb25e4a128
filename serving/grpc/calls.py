"""What every call has, whichever protocol: an id, a time limit, metrics, a log line, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from time import perf_counter
from types import MappingProxyType
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from opentelemetry import propagate, trace
from prometheus_client import Gauge

from serving.core.errors import DeadlineExceededError, MalformedRequestError, ServingError
from serving.grpc.messages import POOL, message
from serving.grpc.status import CLIENT_LEFT, STATUS, internal_error, status_of, trailing
from serving.grpc.stream import until
from serving.grpc.wire import check_fields
from serving.metrics import Metrics
from serving.metrics.prediction_log import log_prediction

error_logger = logging.getLogger("serving.error")
_tracer = trace.get_tracer("serving.grpc")

REQUEST_ID = "x-request-id"
_valid_id = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_SAME_MOMENT_SECONDS = 0.02
Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcCall:
    """One request: what a model has to know of it (`serving.model.Call`), and what it leaves for the log.

    Attributes:
        time_limit: seconds that the answer may take.
        deadline: when the time limit ends, on the monotonic clock.
        size: what is predicted, as `rows=3`; the model fills it in.
        model: tag of the model that predicts; only such requests are logged.
    """

    __slots__ = ("deadline", "id", "model", "size", "time_limit")

    def __init__(self, call_id: str, time_limit: float) -> None:
        self.id = call_id
        self.time_limit = time_limit
        self.deadline = time.monotonic() + time_limit
        self.size = "-"
        self.model: str | None = None

    def expires_in(self) -> float:
        return self.deadline - time.monotonic()


Handle = Callable[[Any, GrpcCall], Awaitable[Any]]
Refuse = Callable[[Any, str], Any]
"""Makes the answer of a stream to a request, `None` where it could not be decoded, that failed with a message."""


class Service(NamedTuple):
    """Some or all methods of a service.

    Attributes:
        methods: from one request to one response.
        streams: methods that answer each request of a stream, one after the other; a request that fails is answered
            with what the second function makes, and the stream goes on.
        missing: methods that clients know and this server has not, with what they are told.
    """

    methods: Mapping[str, Handle]
    streams: Mapping[str, tuple[Handle, Refuse]] = MappingProxyType({})
    missing: Mapping[str, str] = MappingProxyType({})


class Calls:
    """Makes methods of a service out of functions from request and call to response.

    Args:
        timeout_seconds: the time limit of a request; the client's deadline lowers it.
        draining: set once the server stops; streams that are open end then, so that they hold up no stop.
        traced: make a span of each call, below the client's where it sends one.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        timeout_seconds: float,
        log_predictions: bool,
        draining: asyncio.Event,
        traced: bool = False,
    ) -> None:
        self._metrics = metrics
        self._traced = traced
        self._timeout_seconds = timeout_seconds
        self._log = log_predictions
        self._draining = draining

    def service(self, name: str, service: Service) -> grpc.GenericRpcHandler[bytes, bytes]:
        """The handler of a service of `serving.grpc.messages`."""
        described = POOL.FindServiceByName(name).methods_by_name

        def request_type(method: str) -> Any:
            return message(described[method].input_type.full_name)

        handlers = {
            method: self._unary(f"/{name}/{method}", handle, request_type(method))
            for method, handle in service.methods.items()
        }
        for method, (handle, refuse) in service.streams.items():
            handlers[method] = self._stream(f"/{name}/{method}", handle, refuse, request_type(method))
        handlers |= {method: _refuse(reason) for method, reason in service.missing.items()}
        return grpc.method_handlers_generic_handler(name, handlers)

    def _unary(self, endpoint: str, handle: Handle, request_type: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        gauge = self._metrics.in_progress(endpoint)

        async def answer(body: bytes, context: Context) -> bytes:
            call = self._call(_id(context), context)
            metadata = ((REQUEST_ID, call.id),)
            try:
                response = await self._answer(endpoint, gauge, handle, _decoder(request_type, body), call)
            except ServingError as error:
                await context.abort(status_of(error).code, _text(error, call), (*metadata, *trailing(error)))
            context.set_trailing_metadata(metadata)
            return response

        async def traced(body: bytes, context: Context) -> bytes:
            with _span(endpoint, context):
                return await answer(body, context)

        # Bytes in and out: what cannot be decoded is the client's fault, and gRPC would call it an internal error.
        return grpc.unary_unary_rpc_method_handler(traced if self._traced else answer)

    def _stream(
        self, endpoint: str, handle: Handle, refuse: Refuse, request_type: Any
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        gauge = self._metrics.in_progress(endpoint)

        async def answer(body: bytes, call: GrpcCall) -> bytes:
            request: Any = None

            def decode() -> Any:
                nonlocal request
                request = _decoded(request_type, body)
                return request

            try:
                return await self._answer(endpoint, gauge, handle, decode, call)
            except ServingError as error:
                refused: bytes = refuse(request, _text(error, call)).SerializeToString()
                return refused

        async def answers(bodies: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            stream_id = _id(context)
            async with aclosing(until(self._draining, bodies)) as requests:
                async for body in requests:
                    yield await answer(body, self._call(stream_id, context))
            context.set_trailing_metadata(((REQUEST_ID, stream_id),))

        async def traced(bodies: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            with _span(endpoint, context):
                async for response in answers(bodies, context):
                    yield response

        return grpc.stream_stream_rpc_method_handler(traced if self._traced else answers)

    def _call(self, call_id: str, context: Context) -> GrpcCall:
        remaining = context.time_remaining()
        limit = self._timeout_seconds if remaining is None else min(remaining, self._timeout_seconds)
        return GrpcCall(call_id, limit)

    async def _answer(
        self, endpoint: str, gauge: Gauge, handle: Handle, decode: Callable[[], Any], call: GrpcCall
    ) -> bytes:
        """The encoded response, counted and logged.

        Raises:
            ServingError: there is none; whatever went wrong.
        """
        started = perf_counter()
        limit = call.time_limit
        status = CLIENT_LEFT
        gauge.inc()
        try:
            async with asyncio.timeout(limit):
                response: bytes = (await handle(decode(), call)).SerializeToString()
            status = 200
            return response
        except ServingError as error:
            status = status_of(error).http
            raise
        except TimeoutError as error:
            late = DeadlineExceededError(f"not answered within {limit:g} seconds")
            status = status_of(late).http
            raise late from error
        except asyncio.CancelledError:
            # A client's deadline ends its call here too, and may come first by a moment.
            if call.expires_in() < _SAME_MOMENT_SECONDS:
                status = STATUS[DeadlineExceededError].http
            raise
        except Exception as error:  # the last place that knows the call: log it, answer, go on
            error_logger.exception("%s failed request_id=%s", endpoint, call.id)
            unexpected = internal_error()
            status = status_of(unexpected).http
            raise unexpected from error
        finally:
            gauge.dec()
            self._note(endpoint, status, call, perf_counter() - started)

    def _note(self, endpoint: str, status: int, call: GrpcCall, seconds: float) -> None:
        self._metrics.answered(endpoint, status, seconds)
        if self._log and call.model is not None:
            log_prediction(
                endpoint, status=status, model=call.model, size=call.size, seconds=seconds, request_id=call.id
            )


def _refuse(reason: str) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def refuse(_body: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, reason)

    return grpc.unary_unary_rpc_method_handler(refuse)


@contextmanager
def _span(endpoint: str, context: Context) -> Iterator[None]:
    sent = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
    # Whatever is raised is how gRPC ends a call, and no exception of interest.
    with _tracer.start_as_current_span(
        endpoint, propagate.extract(sent), trace.SpanKind.SERVER, {"rpc.system": "grpc"}, record_exception=False
    ):
        yield


def _text(error: ServingError, call: GrpcCall) -> str:
    """What the caller is told; of a failure of the server with the id that the log has too."""
    return error.message if status_of(error).http < 500 else f"{error.message} (request id {call.id})"


def _decoder(request_type: Any, body: bytes) -> Callable[[], Any]:
    return lambda: _decoded(request_type, body)


def _decoded(request_type: Any, body: bytes) -> Any:
    check_fields(body, request_type)
    try:
        return request_type.FromString(body)
    except DecodeError as error:
        raise MalformedRequestError("the message cannot be decoded") from error


def _id(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == REQUEST_ID and isinstance(value, str) and _valid_id(value):
            return value
    # Unique, not secret: the generator is seeded from the system for each process.
    return f"{random.getrandbits(128):032x}"
