"""Model stores of their own, and a server of models of every kind."""

from __future__ import annotations

from tests.client.conftest import any_models
from tests.store_fixtures import bentoml_home, run_python, stored

__all__ = ["any_models", "bentoml_home", "run_python", "stored"]
