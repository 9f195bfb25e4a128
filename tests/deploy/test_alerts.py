"""The alert rules: right by promtool and by their own tests, about metrics that there are, and explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.settings import Settings
from tests.deploy.manifests import ROOT, build, of_kind
from tests.deploy.metrics import exported, metrics_in
from tests.deploy.programs import need, run
from tests.docs import readme

PROMETHEUS = ROOT / "deploy/prometheus"
GUIDE = ROOT / "docs/operations.md"
SEVERITIES = {"critical", "warning", "info"}
SCRAPED = {"up"}
"""Prometheus' own."""


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_promtool_takes_rules_and_configuration() -> None:
    """The configuration names the rules, so it checks both."""
    run(need("promtool"), "check", "config", PROMETHEUS / "prometheus.yaml")


def test_each_alert_fires_when_it_should() -> None:
    run(need("promtool"), "test", "rules", PROMETHEUS / "alerts.test.yaml")


def test_promtool_sees_a_rule_that_does_not_fire(tmp_path: Path) -> None:
    """So that the test above can fail."""
    text = (PROMETHEUS / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(text.replace("> 8000", "> 80000"))
    (tmp_path / "alerts.test.yaml").write_text((PROMETHEUS / "alerts.test.yaml").read_text())
    with pytest.raises(AssertionError, match="ModelServingJobQueueFilling"):
        run(need("promtool"), "test", "rules", tmp_path / "alerts.test.yaml")


def test_every_alert_has_a_test() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yaml").read_text())["tests"]
    fires = {
        name
        for test in tests
        for expected in test["promql_expr_test"]
        for sample in expected["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fires == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_complete_and_about_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    metrics = metrics_in(rule["expr"])
    assert metrics
    assert metrics - SCRAPED <= exported()


def test_operations_explains_each_alert_and_no_other() -> None:
    headings = re.findall(r"^### (\w+)$", readme.prose(GUIDE).partition("\n## Alerts\n")[2], re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    for rule in rules():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert ROOT / path == GUIDE
        assert anchor in readme.anchors(GUIDE)


def test_jobs_are_those_that_are_scraped() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    jobs = {job["job_name"] for job in configuration["scrape_configs"]}
    # the operator calls a job by its Service
    assert jobs <= {service["metadata"]["name"] for service in of_kind(build("production"), "Service")}
    named = {
        name for rule in rules() for match in re.findall(r'job=~?"([^"]+)"', rule["expr"]) for name in match.split("|")
    }
    assert named == jobs


def test_thresholds_fit_the_settings() -> None:
    settings = Settings()
    expressions = {rule["alert"]: rule["expr"] for rule in rules()}

    def threshold(alert: str) -> float:
        return float(re.findall(r"> ([\d.]+)$", expressions[alert].strip())[0])

    assert threshold("ModelServingJobQueueFilling") == 0.8 * settings.jobs.max_queue_jobs
    for model in settings.served.values():
        assert threshold("ModelServingJobsWait") == model.jobs.ttl_seconds / 2
    # a quantile beyond the last bound of the histogram would never be seen
    assert threshold("ModelServingSlow") in settings.metrics.duration_buckets
