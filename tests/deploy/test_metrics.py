"""How the other tests find metrics in expressions."""

from __future__ import annotations

import pytest

from tests.deploy.metrics import exported, metrics_in


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("up", {"up"}),
        ('sum by (a, b) (rate(x_total{c=~"5..", d!="{e}"}[5m])) / sum(y_count) > 0.01', {"x_total", "y_count"}),
        ("histogram_quantile(0.99, sum by (le) (rate(z_bucket[$__rate_interval])))", {"z_bucket"}),
        ('max by (m) (a{s="b"}) > max by (m) (a offset 10m) or vector(0)', {"a"}),
        ("a * on (x) group_left (y) b", {"a", "b"}),
    ],
)
def test_metrics_of_an_expression(expression: str, found: set[str]) -> None:
    assert metrics_in(expression) == found


def test_exported_metrics_have_the_suffixes_of_their_series() -> None:
    assert {
        "serving_rejected_total",
        "serving_queue_wait_seconds_bucket",
        "serving_jobs",
        "bentoml_service_adaptive_batch_size_count",
    } <= exported()
    assert "serving_queue_wait_seconds" not in exported()
