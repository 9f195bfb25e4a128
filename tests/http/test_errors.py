"""What exceptions mean in HTTP."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

import serving
from serving.core.errors import (
    ErrorDetail,
    InvalidInputError,
    MethodNotAllowedError,
    OverloadedError,
    PayloadTooLargeError,
    ServingError,
)
from serving.core.validation import from_validation
from serving.http.errors import STATUS, error_answer, from_http, status_of
from serving.http.operations import ErrorResponse


def subclasses(kind: type[ServingError]) -> Iterator[type[ServingError]]:
    """A class and all that are made from it, wherever they are defined."""
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def import_everything() -> None:
    for module in pkgutil.walk_packages(serving.__path__, "serving."):
        # These are programs, or run while a database is migrated, or need an extra that takes seconds to import.
        if not module.name.endswith(("__main__", "on_ray")) and ".migrations" not in module.name:
            importlib.import_module(module.name)


import_everything()
KINDS = sorted(set(subclasses(ServingError)), key=lambda kind: kind.__name__)
EXPECTED = {
    "ServingError": 500,
    "InvalidInputError": 400,
    "InvalidImageError": 400,
    "MalformedRequestError": 400,
    "NotFoundError": 404,
    "MethodNotAllowedError": 405,
    "ConflictError": 409,
    "PayloadTooLargeError": 413,
    "UnsupportedMediaTypeError": 415,
    "OverloadedError": 429,
    "UnavailableError": 503,
    "DeadlineExceededError": 504,
}


def answer(error: ServingError, **more: Any) -> tuple[int, dict[str, str], Any]:
    found = error_answer(error, **more)
    return found.status, {name.decode(): value.decode() for name, value in found.headers}, json.loads(found.body)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status(kind: type[ServingError]) -> None:
    """A subclass has that of the class that it is made from, unless it is known itself."""
    known = next(each.__name__ for each in kind.__mro__ if each.__name__ in EXPECTED)
    assert status_of(kind("what")) == EXPECTED[known]


def test_the_tree_is_known() -> None:
    assert {kind.__name__ for kind in KINDS} >= set(EXPECTED)
    assert {kind.__name__: status for kind, status in STATUS.items()}.items() <= EXPECTED.items()


def test_an_error_of_a_plugin_has_the_status_of_its_base() -> None:
    class OwnError(InvalidInputError):
        code = "own"

    status, _, body = answer(OwnError("what"))
    assert (status, body["error"]["code"]) == (400, "own")
    assert status_of(type("Another", (ServingError,), {})("x")) == 500


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_one_shape(kind: type[ServingError]) -> None:
    status, headers, content = answer(kind("what", details=[ErrorDetail("data[0]", "why")]))
    assert status == status_of(kind("what"))
    assert headers["content-type"] == "application/json"
    assert content == {
        "error": {"code": kind.code, "message": "what", "details": [{"field": "data[0]", "message": "why"}]}
    }
    ErrorResponse.model_validate(content, strict=True)


@pytest.mark.parametrize("path", ["/v2", "/v2/models/iris/infer", "/v1/models", "/v1/models/iris:predict"])
def test_the_protocols_have_a_shape_of_their_own(path: str) -> None:
    assert answer(InvalidInputError("what"), path=path)[2] == {"error": "what"}


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/model", "/v2x", "/v3", "/iris/v2/", "/"])
def test_other_paths_are_none_of_the_protocols(path: str) -> None:
    assert answer(InvalidInputError("what"), path=path)[2]["error"]["code"] == "invalid_input"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_only_5xx_carry_the_request_id(kind: type[ServingError]) -> None:
    status, _, content = answer(kind("what"), request_id="mine")
    assert content["error"]["message"] == ("what (request id mine)" if status >= 500 else "what")


def test_methods_that_are_allowed_are_a_header() -> None:
    assert answer(MethodNotAllowedError("x", allowed="GET, HEAD"))[1]["allow"] == "GET, HEAD"
    assert "allow" not in answer(MethodNotAllowedError("x"))[1]


def test_a_body_that_is_too_large_ends_the_connection() -> None:
    assert answer(PayloadTooLargeError("x"))[1]["connection"] == "close"
    assert "connection" not in answer(InvalidInputError("x"))[1]


@pytest.mark.parametrize(("seconds", "header"), [(1, "1"), (1.2, "2"), (60, "60")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    assert answer(OverloadedError("x", retry_after=seconds))[1]["retry-after"] == header


def test_without_a_time_there_is_no_retry_after() -> None:
    assert "retry-after" not in answer(InvalidInputError("x"))[1]


def test_ten_details_at_most() -> None:
    _, _, content = answer(InvalidInputError("x", details=[ErrorDetail(str(n), "m") for n in range(30)]))
    assert [detail["field"] for detail in content["error"]["details"]] == [str(n) for n in range(10)]


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (400, "malformed_request", "detail"),
        (404, "not_found", "there is no /x"),
        (405, "method_not_allowed", "allowed: GET"),
        (413, "payload_too_large", "detail"),
        (415, "unsupported_media_type", "detail"),
        (503, "unavailable", "not ready"),
        (500, "internal_error", "something went wrong"),
        (418, "internal_error", "something went wrong"),
    ],
)
def test_what_starlette_and_bentoml_raise(status: int, code: str, says: str) -> None:
    error = from_http(HTTPException(status, "detail", headers={"Allow": "GET"}), "/x")
    assert error.code == code
    assert says in error.message
    assert (error.retry_after is not None) == (status == 503)


class Inner(BaseModel):
    values: list[list[int]]


class Outer(BaseModel):
    inner: Inner


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({}, ["inner"]),
        ({"inner": {"values": [[1], [2, "x"]]}}, ["inner.values[1][1]"]),
        ({"inner": {"values": [["x"], 5]}}, ["inner.values[0][0]", "inner.values[1]"]),
        (5, [""]),
    ],
)
def test_paths(value: Any, fields: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    error = from_validation(caught.value)
    assert [detail.field for detail in error.details] == fields
    assert error.message.startswith(f"{fields[0]}: " if fields[0] else "Input should be")
