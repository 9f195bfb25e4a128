"""Requests and what their answers mean, without the sending.

An exchange is a generator. It yields requests, is sent the answer to each, and returns what it has made of them.
Blocking calls and coroutines run the same exchanges.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from serving.client.answers import ApiError, read_json
from serving.client.description import Description
from serving.client.inputs import JSON_TYPE, Inputs, to_json
from serving.client.predictions import Prediction
from serving.core.errors import ServingError

T = TypeVar("T")
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, ServingError)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request over HTTP, answered with an `httpx.Response`. `content` are keyword arguments of httpx."""

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """A call of a gRPC method by its full name, such as `/package.Service/Method`, answered with bytes."""

    path: str
    message: bytes


Request = HttpRequest | GrpcRequest
Exchange = Generator[Request, Any, T]


class Dialect(Protocol):
    """One protocol over one transport."""

    def describe(self, model: str) -> Exchange[Description]:
        """What the model takes and gives."""

    def default_model(self) -> Exchange[str]:
        """The model of the server that is meant where none is named; raises ValueError when there is none."""

    def metadata(self, model: str) -> Exchange[dict[str, Any]]:
        """What the protocol says of a model, as JSON."""

    def predict(self, description: Description, inputs: Inputs) -> Exchange[list[Prediction]]:
        """A prediction for each row or image; one for tensors. Raises ValueError for what cannot be sent."""


def run(exchange: Exchange[T], send: Callable[[Request], Any]) -> T:
    """What the exchange returns, with blocking calls."""
    answer = None
    while True:
        try:
            request = exchange.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found
        answer = send(request)


async def run_async(exchange: Exchange[T], send: Callable[[Request], Awaitable[Any]]) -> T:
    """The same with coroutines."""
    answer = None
    while True:
        try:
            request = exchange.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found
        answer = await send(request)


@contextmanager
def reading(request: Request, what: str = "no prediction") -> Iterator[None]:
    """Reads the answer to a request; one of another shape than ours ends in ApiError."""
    try:
        yield
    except _MISSHAPEN as error:  # something else answers at this address
        raise ApiError(200, "not_understood", f"the answer of {request.path} is {what}") from error


class HttpDialect:
    """What the dialects over HTTP have in common: the service's own routes say what a model is."""

    def describe(self, model: str) -> Exchange[Description]:
        path = quote(model, safe="")
        description = Description.read((yield from get(f"{path}/metadata")))
        if description.kind == "rows" and description.task == "classification":
            request = HttpRequest("GET", f"{path}/label")
            labels = read_json((yield request))
            with reading(request, "no table of labels"):
                description = description.with_labels(labels[str(index)] for index in range(len(labels)))
        return description

    def default_model(self) -> Exchange[str]:
        try:
            return Description.read((yield from get("metadata"))).name
        except ApiError as error:
            if error.status != 404:
                raise
        inventory = yield from get("inventory")
        raise ValueError(f"name a model; the server has {', '.join(inventory.get('models', {})) or 'none'}")


def get(path: str) -> Exchange[dict[str, Any]]:
    """The JSON object at `path`."""
    request = HttpRequest("GET", path)
    document = read_json((yield request))
    with reading(request, "no JSON object"):
        if not isinstance(document, dict):
            raise TypeError
    return document


def post_json(path: str, body: Any, **content: Any) -> HttpRequest:
    """A request with a JSON body. Raises ValueError: a value has no JSON."""
    headers = {"Content-Type": JSON_TYPE}
    return HttpRequest("POST", path, {"content": to_json(body), "headers": headers, **content})
