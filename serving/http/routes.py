"""The one table of routes: dispatch, labels of metrics and logs, and the OpenAPI document all come from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.core.errors import MethodNotAllowedError, NotFoundError
from serving.http.exchange import Handler

UNMATCHED = "<unmatched>"
"""Label of requests to no route: an unknown path makes no new series of metrics."""
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        path: a template such as `/jobs/{job_id}`. A parameter has no `/` and no `:` in it.
        handler: `None` where BentoML's application answers.
        operation: what the OpenAPI document says of it; see `serving.http.operations`.
        patterns: regular expressions of parameters that are narrower than that.
    """

    method: str
    path: str
    handler: Handler | None
    operation: dict[str, Any]
    patterns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """The route of a request, and the parameters of its path."""

    route: Route
    parameters: Mapping[str, str]


class Routes:
    """Finds the route of a request.

    Args:
        routes: in the order in which templates with parameters are tried.
        examples: paths of templates with parameters that are found without trying one after the other, each with its
            parameters, such as `/v2/models/iris/infer`.
    """

    def __init__(self, routes: Iterable[Route], *, examples: Iterable[Mapping[str, str]] = ()) -> None:
        self.routes = list(routes)
        self._exact: dict[str, dict[str, Match]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, methods in by_path.items():
            if not _PARAMETER.search(path):
                self._exact[path] = {method: Match(route, {}) for method, route in methods.items()}
                continue
            self._patterns.append((_compile(next(iter(methods.values()))), methods))
            for values in examples:
                if set(_PARAMETER.findall(path)) == set(values):
                    self._exact[path.format_map(values)] = {
                        method: Match(route, dict(values)) for method, route in methods.items()
                    }

    def find(self, method: str, path: str) -> Match:
        """The route of a request; HEAD is answered where GET is.

        Raises:
            NotFoundError: there is no such path.
            MethodNotAllowedError: the path has other methods; the message lists them.
        """
        methods = self._exact.get(path)
        if methods is not None:
            match = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
            if match is None:
                raise _not_allowed(methods)
            return match
        for pattern, routes in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                route = routes.get(method) or (routes.get("GET") if method == "HEAD" else None)
                if route is None:
                    raise _not_allowed(routes)
                return Match(route, found.groupdict())
        raise NotFoundError(f"there is no {path}; see / for the routes")


def _compile(route: Route) -> re.Pattern[str]:
    """The pattern of a template."""
    parts: list[str] = []
    end = 0
    for found in _PARAMETER.finditer(route.path):
        parts.append(re.escape(route.path[end : found.start()]))
        parts.append(f"(?P<{found[1]}>{route.patterns.get(found[1], '[^/:]+')})")
        end = found.end()
    return re.compile("".join(parts) + re.escape(route.path[end:]))


def _not_allowed(methods: Iterable[str]) -> MethodNotAllowedError:
    found = set(methods)
    if "GET" in found:
        found.add("HEAD")
    allowed = ", ".join(sorted(found))
    return MethodNotAllowedError(f"the method is not allowed here; allowed: {allowed}", allowed=allowed)
