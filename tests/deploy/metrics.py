"""The metrics that the service exports, and those that an expression names."""

from __future__ import annotations

import re
from functools import lru_cache

from prometheus_client import CollectorRegistry

from serving.metrics import Metrics

_WORDS = re.compile(r"(?<!\w)[a-zA-Z_:][a-zA-Z0-9_:]*")
_NOT_METRICS = (
    r'"(?:[^"\\]|\\.)*"',  # values of labels, before the braces: they may have some
    r"\{[^}]*\}",  # matchers
    r"\[[^\]]*\]",  # ranges
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)",
    r"\b[a-z_]+\s*(?=\()",  # functions and aggregations
    r"\b(?:or|and|unless|bool|offset)\b",
)


@lru_cache
def exported() -> frozenset[str]:
    """The names of all series: of a histogram its `_bucket`, `_sum` and `_count`."""
    registry = CollectorRegistry()
    Metrics(service_name="", service_version="", runner_name="", duration_buckets=[1.0], registry=registry)
    found: set[str] = set()
    for family in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + suffix for suffix in suffixes}
    return frozenset(found)


def metrics_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    rest = expression
    for pattern in _NOT_METRICS:
        rest = re.sub(pattern, " ", rest)
    return set(_WORDS.findall(rest))
