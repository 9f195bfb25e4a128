"""Request ids, log lines and metrics across processes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.server import Server

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}


def samples(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(server: Server, name: str, **labels: str) -> float:
    return sum(
        value
        for (found, found_labels), value in samples(server).items()
        if found == name and labels.items() <= dict(found_labels).items()
    )


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return done


def test_a_request_id_is_returned_and_logged(server: Server) -> None:
    response = httpx.post(f"{server.url}/iris/predict", json=ROW, headers={"X-Request-ID": "order-66"}, timeout=60)
    assert response.headers["X-Request-ID"] == "order-66"
    assert eventually(
        lambda: any(record["request_id"] == "order-66" for record in server.log_records("serving.prediction"))
    )
    record = next(r for r in server.log_records("serving.prediction") if r["request_id"] == "order-66")
    assert record["endpoint"] == "/iris/predict"
    assert record["model"].startswith("iris:")
    assert (record["status"], record["size"]) == (200, "rows=1")
    assert record["milliseconds"] > 0


def test_an_id_that_could_forge_a_log_line_is_replaced(server: Server) -> None:
    response = httpx.post(
        f"{server.url}/iris/predict", json=ROW, headers={"X-Request-ID": "a b; status=200"}, timeout=60
    )
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])


def test_requests_are_counted_once_whichever_worker_answers(server: Server) -> None:
    labels = {"endpoint": "/iris/predict/label", "http_response_code": "200"}
    before = total(server, "bentoml_service_request_total", **labels)

    def ask(_: int) -> None:
        # A connection of its own each time, so that both workers get some.
        httpx.post(f"{server.url}/iris/predict/label", json=ROW, timeout=60).raise_for_status()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(100)))
    assert total(server, "bentoml_service_request_total", **labels) == before + 100
    assert total(server, "bentoml_service_request_duration_seconds_count", **labels) == before + 100
    assert len(server.workers("model_serving")) == 2


def test_batches_of_the_runner_are_seen_from_the_api(server: Server) -> None:
    before = total(server, "bentoml_service_adaptive_batch_size_sum", runner_name="iris_runner")
    httpx.post(f"{server.url}/iris/predict/batched", json={"data": ROW["data"] * 7}, timeout=60).raise_for_status()
    assert total(server, "bentoml_service_adaptive_batch_size_sum", runner_name="iris_runner") == before + 7


def test_unknown_paths_make_no_series(server: Server) -> None:
    httpx.get(f"{server.url}/unknown", timeout=60)
    series = len(samples(server))
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number in range(200):
            assert client.get(f"/unknown/{number}").status_code == 404
    assert len(samples(server)) == series


def test_models_are_described(server: Server) -> None:
    assert total(server, "serving_model_info", model="iris", trained="true") == 1
    assert total(server, "serving_model_info", model="inception_v3", weights="random", trained="false") == 1
