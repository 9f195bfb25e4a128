"""Finding the route of a request."""

from __future__ import annotations

import pytest

from serving.core.errors import MethodNotAllowedError, NotFoundError
from serving.http.exchange import Answer, Exchange
from serving.http.routes import Match, Route, Routes


async def answer(_exchange: Exchange) -> Answer:
    return Answer(b"")


def routes(*paths: str, method: str = "GET", examples: tuple[dict[str, str], ...] = ()) -> Routes:
    return Routes([Route(method, path, answer, {}) for path in paths], examples=examples)


def template(found: Routes, path: str, method: str = "GET") -> str | None:
    """The template of a path; `None` where there is none."""
    try:
        return found.find(method, path).route.path
    except NotFoundError:
        return None


def test_paths_are_found_by_their_templates() -> None:
    found = routes("/jobs", "/jobs/{job_id}", "/jobs/{job_id}/result", "/a.b")
    assert {path: template(found, path) for path in ("/jobs", "/jobs/1", "/jobs/x-y/result", "/a.b")} == {
        "/jobs": "/jobs",
        "/jobs/1": "/jobs/{job_id}",
        "/jobs/x-y/result": "/jobs/{job_id}/result",
        "/a.b": "/a.b",
    }
    for unknown in ("", "/", "/jobs/", "/jobs/1/2", "/jobs/1/results", "/axb", "/jobs/1/result/"):
        assert template(found, unknown) is None, unknown


def test_methods_behind_a_colon_are_part_of_the_template() -> None:
    paths = ["/v1/{model}", "/v1/{model}/labels/{label}", "/v1/{model}/labels/{label}:predict", "/v1/{model}:predict"]
    found = routes(*paths, "/v2/{model}", examples=({"model": "iris"},))
    assert template(found, "/v1/iris") == "/v1/{model}"
    assert template(found, "/v1/iris:predict") == "/v1/{model}:predict"
    assert template(found, "/v1/iris/labels/stable:predict") == "/v1/{model}/labels/{label}:predict"
    assert template(found, "/v1/iris:other") is None
    assert template(found, "/v1/iris:predict:predict") is None
    assert template(found, "/v2/iris") == template(found, "/v2/other") == "/v2/{model}"


def test_parameters_are_those_of_the_path() -> None:
    found = routes("/v1/{model}/versions/{version}", examples=({"model": "iris", "version": "3"},))
    for path, expected in (("/v1/iris/versions/3", "3"), ("/v1/iris/versions/4", "4")):
        assert found.find("GET", path).parameters == {"model": "iris", "version": expected}


def test_an_example_is_found_without_trying_the_templates() -> None:
    examples = ({"model": "iris"}, {"model": "iris", "version": "3"})
    found = routes("/v2/{model}", "/v2/{model}/versions/{version}", examples=examples)
    tried = found._patterns
    found._patterns = []
    assert template(found, "/v2/iris") == "/v2/{model}"
    assert template(found, "/v2/iris/versions/3") == "/v2/{model}/versions/{version}"
    assert template(found, "/v2/other") is None
    found._patterns = tried
    assert template(found, "/v2/other") == "/v2/{model}"


def test_a_parameter_may_be_narrower_than_a_part_of_a_path() -> None:
    narrow = Route("GET", "/jobs/{job_id}", answer, {}, {"job_id": "[0-9]{1,3}"})
    wide = Route("GET", "/files/{file}", answer, {}, {"file": ".+"})
    found = Routes([narrow, wide])
    assert template(found, "/jobs/12") == "/jobs/{job_id}"
    assert template(found, "/jobs/1234") is None
    assert template(found, "/jobs/x") is None
    assert found.find("GET", "/files/a/b.c").parameters == {"file": "a/b.c"}


@pytest.mark.parametrize("path", ["/x", "/x/1"])
def test_head_is_answered_where_get_is_and_other_methods_are_refused(path: str) -> None:
    templates = ["/x", "/x/{id}"]
    found = Routes([Route(method, each, answer, {}) for each in templates for method in ("DELETE", "GET")])
    assert found.find("HEAD", path) == Match(found.find("GET", path).route, found.find("GET", path).parameters)
    assert found.find("DELETE", path).route.method == "DELETE"
    for method in ("POST", "PUT", "get", ""):
        with pytest.raises(MethodNotAllowedError) as caught:
            found.find(method, path)
        assert caught.value.allowed == "DELETE, GET, HEAD"
    with pytest.raises(MethodNotAllowedError) as caught:
        routes("/x", "/x/{id}", method="POST").find("HEAD", path)
    assert caught.value.allowed == "POST"
