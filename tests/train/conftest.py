"""Stores of their own and small Keras models for the tests of training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore

from serving.store.models import open_model
from train.images import seeded_images
from train.progress import Reporter

# TensorFlow's variables do not know numpy 2's `copy` argument yet, and Keras saves through it.
KERAS_WARNINGS = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
PROJECT = Path(__file__).resolve().parent.parent.parent


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
def reporter() -> Reporter:
    return Reporter(quiet=True)


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


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on TensorFlow, imported once for all tests."""
    from train import tensorflow_setup

    tensorflow_setup.load()
    import keras

    return keras


@pytest.fixture
def make_keras_model(keras: Any) -> Callable[..., Any]:
    """Makes classifiers of a few hundred weights whose best class differs between images."""

    def make(classes: int = 3, *, activation: str | None = "softmax", before: tuple[Any, ...] = (), side: int = 299):
        keras.utils.set_random_seed(7)
        inputs = keras.Input((side, side, 3))
        outputs = inputs
        for layer in before:
            outputs = layer(outputs)
        outputs = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(outputs)
        outputs = keras.layers.GlobalAveragePooling2D()(outputs)
        head = keras.layers.Dense(classes, activation=activation)
        model = keras.Model(inputs, head(outputs))
        pixels = seeded_images(6, seed=5, height=side, width=side).astype(np.float32) / 127.5 - 1
        features = np.asarray(keras.Model(inputs, outputs)(pixels))
        kernel = np.asarray(head.kernel)
        logits = features @ kernel
        scale = 3 / logits.std()
        head.set_weights([kernel * scale, -logits.mean(axis=0) * scale])
        return model

    return make
