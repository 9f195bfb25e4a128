"""The standard protocols can be turned off, and models that are not served are not in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = "import json, service; print(json.dumps(service.svc.openapi_spec.asdict()['paths']))"


def paths(**settings: str) -> dict[str, Any]:
    """The document's paths in a process of its own, as settings are read once."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("model_store")
def test_protocols_that_are_off_have_no_routes() -> None:
    found = paths(SERVING__PROTOCOLS__V2="false", SERVING__PROTOCOLS__TFSERVING="false")
    assert "/iris/predict" in found
    assert [path for path in found if path.startswith(("/v1", "/v2"))] == []


@pytest.mark.usefixtures("model_store")
def test_only_models_that_are_served_are_named() -> None:
    found = paths(SERVING__MODELS__INCEPTION_V3__ENABLED="false")
    for path in ("/v1/models/{model}:predict", "/v2/models/{model}/infer"):
        (model,) = (each for each in found[path]["post"]["parameters"] if each["name"] == "model")
        assert model["schema"]["enum"] == ["iris"]
