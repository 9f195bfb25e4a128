"""The one exception tree."""

from __future__ import annotations

import pytest

from serving.core import errors
from serving.core.errors import ConfigurationError, ErrorDetail, ModelError, ServingError

TREE = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, Exception) and each.__module__ == errors.__name__
]


def test_all_that_callers_are_told_is_in_the_tree() -> None:
    assert [each for each in TREE if not issubclass(each, ServingError)] == [ConfigurationError, ModelError]


def test_codes_are_stable_and_unique() -> None:
    codes = sorted(each.code for each in TREE if issubclass(each, ServingError) and "code" in vars(each))
    assert codes == [
        "conflict",
        "deadline_exceeded",
        "internal_error",
        "invalid_image",
        "invalid_input",
        "malformed_request",
        "method_not_allowed",
        "not_found",
        "overloaded",
        "payload_too_large",
        "unavailable",
        "unsupported_media_type",
    ]


@pytest.mark.parametrize("kind", [each for each in TREE if issubclass(each, ServingError)])
def test_what_an_error_carries(kind: type[ServingError]) -> None:
    detail = ErrorDetail("data[0]", "wrong")
    error = kind("message", details=[detail], retry_after=2)
    assert (str(error), error.message, error.details, error.retry_after) == ("message", "message", (detail,), 2)
    assert (kind("m").details, kind("m").retry_after) == ((), None)
