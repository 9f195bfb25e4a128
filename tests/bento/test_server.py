"""BentoML's server as this project configures it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore
from bentoml.exceptions import BentoMLException

from serving.settings import Settings
from serving.store.models import open_model
from tests.process_state import kept_process


def _config(**changes: Any) -> dict[str, Any]:
    from serving.bento.service import server_config

    return server_config(Settings(**changes), workers=3)


def test_workers_and_timeouts_come_from_the_settings() -> None:
    config = _config(server={"request_timeout_seconds": 7})
    assert (config["workers"], config["traffic"]["timeout"]) == (3, 7)


def test_what_this_project_replaces_is_off() -> None:
    config = _config()
    assert config["metrics"]["enabled"] is False
    assert config["logging"]["access"]["enabled"] is False


def test_a_session_with_a_runner_is_never_closed_under_its_requests() -> None:
    connection = _config()["runner_connection"]
    assert connection["max_age"] == math.inf
    assert connection["max_requests"] > 10**12


def test_tracing_is_off_unless_an_exporter_is_configured() -> None:
    assert "tracing" not in _config()
    tracing = _config(tracing={"exporter": "otlp", "endpoint": "http://collector:4318/v1/traces", "sample_rate": 0.5})
    assert tracing["tracing"] == {
        "exporter_type": "otlp",
        "sample_rate": 0.5,
        "otlp": {"protocol": "http", "endpoint": "http://collector:4318/v1/traces"},
    }


@pytest.mark.usefixtures("model_store")
@pytest.mark.parametrize("exporter", ["none", "otlp"])
def test_the_tracing_middleware_is_there_only_with_an_exporter(monkeypatch: pytest.MonkeyPatch, exporter: str) -> None:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    import service

    settings = Settings(tracing={"exporter": exporter})
    monkeypatch.setattr("serving.bento.service.get_settings", lambda: settings)
    with kept_process():
        kinds = [middleware.cls for middleware in service.svc.to_asgi().user_middleware]
    assert (OpenTelemetryMiddleware in kinds) == (exporter == "otlp")


def test_a_missing_model_ends_the_start_with_one_clear_line(tmp_path: Path) -> None:
    from serving.bento.service import LocalModel

    BentoMLContainer.model_store.set(ModelStore(tmp_path))
    open_model.cache_clear()
    try:
        with pytest.raises(
            BentoMLException,
            match=r"^model iris:latest is not in the model store; .*serving models add.*python -m train",
        ):
            LocalModel("iris:latest").resolve()
    finally:
        BentoMLContainer.model_store.reset()
        open_model.cache_clear()


@pytest.mark.usefixtures("model_store")
def test_a_model_of_other_versions_ends_the_start_when_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.bento.service import LocalModel

    monkeypatch.setattr("serving.store.models.installed_version", {"onnxruntime": "0.1.0"}.get)
    LocalModel("iris:latest").resolve()
    strict = Settings(server={"strict_versions": True})
    monkeypatch.setattr("serving.bento.service.get_settings", lambda: strict)
    with pytest.raises(BentoMLException, match=r"onnxruntime .* made it, 0\.1\.0 is installed .*strict_versions"):
        LocalModel("iris:latest").resolve()
