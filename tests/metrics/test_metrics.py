"""Prometheus metrics of one process and of several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import DIRECTORY_VARIABLE, DROP_REASONS, Metrics, use_own_directory
from tests.process_state import kept_metrics
from tests.tiny_models import tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    with kept_metrics():
        os.environ.pop(DIRECTORY_VARIABLE, None)
        yield


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        service_name="name",
        service_version="1",
        runner_name="api",
        duration_buckets=[0.1, 1],
        registry=CollectorRegistry(),
    )


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


OURS = {"service_name": "name", "service_version": "1", "runner_name": "api"}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics.render()[0])[name, frozenset(labels.items())]


def test_requests_and_durations(metrics: Metrics) -> None:
    for seconds in (0.05, 0.5, 5):
        metrics.answered("/x", 200, seconds)
    metrics.answered("/x", 400, 0.05)
    labels = {**OURS, "endpoint": "/x", "http_response_code": "200"}
    name = "bentoml_service_request"
    assert value(metrics, f"{name}_total", **labels) == 3
    assert value(metrics, f"{name}_total", **{**labels, "http_response_code": "400"}) == 1
    assert value(metrics, f"{name}_duration_seconds_sum", **labels) == pytest.approx(5.55)
    buckets = {le: value(metrics, f"{name}_duration_seconds_bucket", le=le, **labels) for le in ("0.1", "1.0", "+Inf")}
    assert buckets == {"0.1": 1, "1.0": 2, "+Inf": 3}


def test_gauges_and_rejections(metrics: Metrics, tmp_path: Path) -> None:
    metrics.in_progress("/x").inc()
    metrics.rejected("iris", "queue_full").inc()
    metrics.serves("iris", tiny_model(tmp_path))
    assert value(metrics, "bentoml_service_request_in_progress", endpoint="/x", **OURS) == 1
    assert value(metrics, "serving_rejected_total", model="iris", reason="queue_full") == 1
    info = {"model": "iris", "tag": "tiny:1", "weights": "random", "trained": "false"}
    assert value(metrics, "serving_model_info", **info) == 1


def test_what_a_batcher_tells(metrics: Metrics) -> None:
    batches = metrics.batches("iris")
    for reason in DROP_REASONS:
        assert value(metrics, "serving_rejected_total", model="iris", reason=reason) == 0, "there from the start"
    for rows in (3, 5):
        batches.batch(rows)
    for seconds in (0.05, 0.5):
        batches.waited(seconds)
    for depth in (7, 4):
        batches.depth(depth)
    batches.dropped("queue_full")
    for _ in range(2):
        batches.dropped("cancelled")
    sizes = {**OURS, "method_name": "predict_batched"}
    assert value(metrics, "bentoml_service_adaptive_batch_size_sum", **sizes) == 8
    assert value(metrics, "bentoml_service_adaptive_batch_size_count", **sizes) == 2
    assert value(metrics, "bentoml_service_adaptive_batch_size_bucket", le="4.0", **sizes) == 1
    assert value(metrics, "serving_queue_wait_seconds_sum", model="iris") == pytest.approx(0.55)
    assert value(metrics, "serving_queue_wait_seconds_bucket", model="iris", le="0.1") == 1
    assert value(metrics, "serving_queue_depth", model="iris") == 4, "a gauge: the last that was told"
    rejected = {
        reason: value(metrics, "serving_rejected_total", model="iris", reason=reason) for reason in DROP_REASONS
    }
    assert rejected == {"queue_full": 1, "expired": 0, "cancelled": 2}


def test_the_batchers_of_two_models_are_told_apart(metrics: Metrics) -> None:
    metrics.batches("iris").depth(3)
    metrics.batches("inception_v3").depth(5)
    metrics.batches("iris").dropped("expired")
    assert value(metrics, "serving_queue_depth", model="iris") == 3
    assert value(metrics, "serving_queue_depth", model="inception_v3") == 5
    assert value(metrics, "serving_rejected_total", model="inception_v3", reason="expired") == 0


def test_a_reason_that_is_not_known_makes_no_series(metrics: Metrics) -> None:
    with pytest.raises(KeyError):
        metrics.batches("iris").dropped("bored")


def test_outside_a_server_nothing_is_changed() -> None:
    use_own_directory()
    assert DIRECTORY_VARIABLE not in os.environ


def test_each_server_has_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "prometheus"
    left_behind = tmp_path / "serving_metrics" / "99999999-1.00"
    left_behind.mkdir(parents=True)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(shared))
    use_own_directory()
    own = Path(os.environ[DIRECTORY_VARIABLE])
    assert own.is_dir()
    assert own.parent == tmp_path / "serving_metrics"
    assert own.name.startswith(f"{os.getppid()}-")
    assert not left_behind.exists(), "of a server that has ended"
    use_own_directory()
    assert Path(os.environ[DIRECTORY_VARIABLE]) == own


WORKER = """
import os, sys, time
from serving.metrics import Metrics
metrics = Metrics(service_name="name", service_version="1", runner_name="api", duration_buckets=[1])
for _ in range(int(sys.argv[1])):
    metrics.answered("/x", 200, 0.5)
metrics.in_progress("/x").inc()
metrics.batches("iris").depth(2)
print("ready", flush=True)
sys.stdin.read()
"""


def test_workers_are_summed_and_the_gauges_of_dead_ones_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(count)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for count in (3, 4)
    ]
    request = {**OURS, "endpoint": "/x"}
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        assert value(metrics, "bentoml_service_request_total", http_response_code="200", **request) == 7
        assert value(metrics, "bentoml_service_request_in_progress", **request) == 2
        assert value(metrics, "serving_queue_depth", model="iris") == 4
        workers[0].kill()
        workers[0].wait()
        assert value(metrics, "bentoml_service_request_in_progress", **request) == 1
        assert value(metrics, "serving_queue_depth", model="iris") == 2
        assert value(metrics, "bentoml_service_request_total", http_response_code="200", **request) == 7
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_the_content_type_is_prometheus(metrics: Metrics) -> None:
    assert metrics.render()[1].startswith("text/plain; version=")
