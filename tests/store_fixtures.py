"""Fixtures of tests that write into a model store: a conftest imports those that its tests use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore

from serving.store.models import open_model

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bentoml_home(tmp_path: Path) -> Iterator[Path]:
    """An empty BentoML home that this process uses during the test."""
    home = tmp_path / "bentoml"
    models, temporary = home / "models", home / "tmp"
    models.mkdir(parents=True)
    temporary.mkdir()
    providers = BentoMLContainer.model_store_dir, BentoMLContainer.tmp_bento_store_dir, BentoMLContainer.model_store
    for provider, value in zip(providers, (str(models), str(temporary), ModelStore(models)), strict=True):
        provider.set(value)
    open_model.cache_clear()
    yield home
    open_model.cache_clear()
    for provider in providers:
        provider.reset()


@pytest.fixture
def stored(bentoml_home: Path) -> Callable[[], list[str]]:
    """Lists every file and directory of the store."""
    models = bentoml_home / "models"
    return lambda: sorted(str(path.relative_to(models)) for path in models.rglob("*"))


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in the project with a BentoML home of its own, `tmp_path/bentoml` unless told otherwise."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("SERVING")}
        variables |= {"BENTOML_HOME": str(tmp_path / "bentoml"), **environment}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run
