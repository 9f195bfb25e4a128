"""What exceptions mean in HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from serving.core import errors as tree
from serving.core.errors import ErrorDetail, InvalidInputError, OverloadedError, ServingError
from serving.http.errors import STATUS, ErrorResponse, error_response, from_http, from_validation
from serving.http.request import RequestRecord, current_request
from tests.http.asgi import Body, scope

KINDS = [each for each in vars(tree).values() if isinstance(each, type) and issubclass(each, ServingError)]


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_shape(kind: type[ServingError]) -> None:
    response = error_response(kind("what", details=[ErrorDetail("data[0]", "why")]))
    assert response.status_code == STATUS[kind]
    assert response.headers["content-type"] == "application/json"
    content = json.loads(bytes(response.body))
    assert content == {
        "error": {"code": kind.code, "message": "what", "details": [{"field": "data[0]", "message": "why"}]}
    }
    ErrorResponse.model_validate(content, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_only_5xx_carry_the_request_id(kind: type[ServingError]) -> None:
    token = current_request.set(RequestRecord("mine", scope("/"), Body()))
    try:
        message = json.loads(bytes(error_response(kind("what")).body))["error"]["message"]
    finally:
        current_request.reset(token)
    assert message == ("what (request id mine)" if STATUS[kind] >= 500 else "what")


@pytest.mark.parametrize(("seconds", "header"), [(1, "1"), (1.2, "2"), (60, "60")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    assert error_response(OverloadedError("x", retry_after=seconds)).headers["retry-after"] == header


def test_without_a_time_there_is_no_retry_after() -> None:
    assert "retry-after" not in error_response(InvalidInputError("x")).headers


def test_ten_details_at_most() -> None:
    response = error_response(InvalidInputError("x", details=[ErrorDetail(str(n), "m") for n in range(30)]))
    fields = [detail["field"] for detail in json.loads(bytes(response.body))["error"]["details"]]
    assert fields == [str(n) for n in range(10)]


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
