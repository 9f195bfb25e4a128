"""The entry service that is made from the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bentoml
import pytest

from serving.bento.entry import AnyRequest, entry_options, make_entry
from serving.settings import Settings, get_settings
from serving.settings.models import ModelSettings
from tests.server import ROOT

ENTRIES = {
    "wine": ModelSettings(tag="wine:3"),
    "iris": ModelSettings(tag="iris:latest", predict_in="api", runner="small"),
    "off": ModelSettings(tag="off:latest", enabled=False),
}


def make(models: dict[str, ModelSettings], **changes: Any) -> Any:
    settings = get_settings().model_copy(update={"models": models, "default_model": "", **changes})
    return bentoml.service(**entry_options(settings))(make_entry(settings))


def test_each_model_that_is_served_has_three_methods() -> None:
    service = make(ENTRIES)
    assert service.name == "model_serving"
    assert {name: method.route for name, method in service.apis.items()} == {
        f"{model}_{path.replace('/', '_')}": f"/{model}/{path}"
        for model in ("wine", "iris")
        for path in ("predict", "predict/batched", "predict/label")
    }
    for method in service.apis.values():
        assert issubclass(method.input_spec, AnyRequest)
        assert method.func.__doc__ == f"What `POST {method.route}` answers."
        assert method.func.__name__ == method.name


def test_its_runners_are_dependencies_and_its_models_are_packed() -> None:
    service = make(ENTRIES)
    assert {name: each.on.name for name, each in service.dependencies.items()} == {
        "wine_runner": "wine_runner",
        "small_runner": "small_runner",
    }
    assert {str(model.tag) for model in service.models} == {"wine:3", "iris:latest"}


def test_a_server_without_models_can_be_made() -> None:
    service = make({})
    assert (service.apis, service.dependencies, service.models) == ({}, {}, [])


@pytest.mark.parametrize(("url", "embedded", "expected"), [
    ("sqlite:///jobs.db", None, True), ("redis://host", None, False), ("redis://host", True, True),
    ("sqlite:///jobs.db", False, False),
])  # fmt: skip
def test_a_worker_of_jobs_runs_beside_it_where_the_store_is_a_file(
    url: str, embedded: bool | None, expected: bool
) -> None:
    jobs = get_settings().jobs.model_copy(update={"url": url, "embedded_worker": embedded})
    assert ("job_worker" in make(ENTRIES, jobs=jobs).dependencies) == expected


def test_workers_are_those_of_the_settings() -> None:
    settings = Settings(server={"workers": 7})
    assert entry_options(settings)["workers"] == 7


def test_the_service_is_found_by_the_name_that_child_processes_are_told(model_store: Path) -> None:
    """`bentoml serve service:svc` starts processes that import it anew."""
    code = "import service; print(service.svc.import_string); print(*service.svc.all_services())"
    environment = os.environ | {"BENTOML_HOME": str(model_store)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    name, services = done.stdout.splitlines()[-2:]
    assert name == "service:svc"
    assert set(services.split()) == {"model_serving", "iris_runner", "inception_v3_runner"}


def test_importing_the_service_opens_no_model(tmp_path: Path) -> None:
    code = "import sys, service; print([name for name in ('onnxruntime', 'PIL', 'fastapi') if name in sys.modules])"
    environment = os.environ | {"BENTOML_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
