"""The dashboard by its JSON, and its expressions and the rules in a real Prometheus that scrapes a real server."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.manifests import ROOT
from tests.deploy.metrics import exported, metrics_in
from tests.deploy.programs import need
from tests.docs import readme
from tests.server import Server, free_port

DASHBOARD = ROOT / "deploy/grafana/dashboards/model-serving.json"
RULES = ROOT / "deploy/prometheus/alerts.yaml"
GUIDE = ROOT / "docs/operations.md"
KINDS = {"timeseries", "stat", "table", "heatmap"}
COLUMNS = 24
SECONDS = 60
SCRAPED = {"up"}
# Of the protocols' own statistics, which the counts by route have too.
NOT_SHOWN = {name for name in exported() if name.startswith("serving_inference_")}
# What a server without Redis, workers of their own or overload has none of.
MAY_BE_EMPTY = {"Workers", "Turned away"}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def filled(expression: str) -> str:
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", "1m").replace("$model", ".*")


# --- the JSON ---


def test_it_is_a_dashboard() -> None:
    found = dashboard()
    assert found["uid"] == "model-serving"
    assert found["schemaVersion"] >= 36
    assert "id" not in found, "Grafana gives it"
    assert "__inputs" not in found, "provisioning asks nobody"
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)


def test_panels_are_beside_and_not_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert all(0 <= x < COLUMNS for x, _ in cells), panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_shows_metrics_that_there_are(panel: dict[str, Any]) -> None:
    assert panel["type"] in KINDS
    assert panel["description"]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters
    assert len(set(letters)) == len(letters)
    for target in panel["targets"]:
        assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        metrics = metrics_in(filled(target["expr"]))
        assert metrics
        assert metrics - SCRAPED <= exported()
        # of several series the legend tells which is which
        groups = re.search(r"by \(([^)]*)\)", target["expr"])
        if panel["type"] == "timeseries" and groups:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown == {label.strip() for label in groups[1].split(",")} - {"le"}


def test_every_metric_is_shown() -> None:
    shown = {
        metric for panel in panels() for target in panel["targets"] for metric in metrics_in(filled(target["expr"]))
    }
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in exported() - NOT_SHOWN}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in shown} - SCRAPED == families


def test_variables_are_declared_and_used() -> None:
    declared = {variable["name"] for variable in dashboard()["templating"]["list"]}
    text = DASHBOARD.read_text()
    assert declared == {"datasource", "model"}
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == declared


def test_the_datasource_is_the_provisioned_one() -> None:
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (variable,) = (one for one in dashboard()["templating"]["list"] if one["name"] == "datasource")
    assert variable["query"] == source["type"] == "prometheus"
    assert variable["current"]["value"] == source["uid"]


# --- a real Prometheus ---


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.1)


class Prometheus:
    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._process = process
        self._log = log

    def get(self, path: str, **parameters: str) -> Any:
        assert self._process.poll() is None, self._log.read_text()
        answer = httpx.get(f"{self._url}{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["result"]
        return found

    @property
    def ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self._url}/-/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def use(server: Server) -> None:
    """A bit of everything."""
    rows = {"data": [[5.1, 3.5, 1.4, 0.2]]}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for path in ("/iris/predict", "/iris/predict/batched"):
            assert client.post(path, json=rows).status_code == 200
        assert client.post("/iris/predict", json={"data": []}).status_code == 400
        job = client.post("/iris/jobs", json=rows).json()["job_id"]
        assert client.get(f"/jobs/{job}", params={"wait": 30}).json()["status"] == "succeeded"


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With our rules and, but for where and how often, our configuration; it has seen the server at work."""
    program = need("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    configuration["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    (api,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "model-serving")
    del api["dns_sd_configs"]
    api["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]
    configuration["scrape_configs"] = [api]
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    (directory / "alerts.yaml").write_text(RULES.read_text())
    port, log = free_port(), directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yaml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        running = Prometheus(port, process, log)
        until(lambda: running.ready, "Prometheus is ready")
        use(server)
        until(lambda: running.query('up{job="model-serving"} == 1'), "the server is scraped")
        # a rate needs two values, and the second one more than the first
        until(lambda: running.query("sum(rate(serving_job_wait_seconds_count[1m])) >= 0"), "there are rates")
        use(server)
        until(
            lambda: (
                running.query('sum(rate(bentoml_service_request_total{endpoint="/iris/predict"}[1m])) > 0')
                and running.query("sum(rate(serving_job_wait_seconds_count[1m])) > 0")
                and running.query("sum(rate(bentoml_service_adaptive_batch_size_count[1m])) > 0")
            ),
            "rates are more than none",
        )
        yield running
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()


def test_every_panel_has_something_to_show(prometheus: Prometheus) -> None:
    def empty() -> set[str]:
        return {
            panel["title"]
            for panel in panels()
            for target in panel["targets"]
            if not prometheus.query(filled(target["expr"]))
        }

    # a machine that is busy may be late with a scrape, and then nothing is current
    until(lambda: empty() <= MAY_BE_EMPTY, "every panel shows something")


def test_the_choice_of_models_is_those_that_are_served(prometheus: Prometheus) -> None:
    (variable,) = (one for one in dashboard()["templating"]["list"] if one["name"] == "model")
    metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
    until(lambda: prometheus.query(metric), "models are named")
    assert {series["metric"][label] for series in prometheus.query(metric)} <= {"iris", "inception_v3"}


def test_rules_are_evaluated_without_errors(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        (group,) = prometheus.get("/api/v1/rules")["groups"]
        found: list[dict[str, Any]] = group["rules"]
        return found

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule has been evaluated")
    assert {rule["name"]: rule.get("lastError", "") for rule in rules()} == {rule["name"]: "" for rule in rules()}


def test_rules_see_what_is_wrong(prometheus: Prometheus) -> None:
    """The tests' InceptionV3 has random weights."""
    (rule,) = (rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"] if "Untrained" in rule["alert"])
    until(lambda: prometheus.query(rule["expr"]), "the model with random weights is seen")


def test_expressions_of_the_guide_are_evaluated(prometheus: Prometheus) -> None:
    expressions = [block.text for block in readme.blocks(GUIDE) if block.kind == "promql"]
    assert expressions
    for expression in expressions:
        assert metrics_in(expression) <= exported()
        prometheus.query(expression)
