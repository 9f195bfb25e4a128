"""Small Keras models for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.keras_fixture import keras
from tests.store_fixtures import bentoml_home, run_python, stored
from train.images import seeded_images
from train.progress import Reporter

__all__ = ["bentoml_home", "keras", "run_python", "stored"]
# TensorFlow's variables do not know numpy 2's `copy` argument yet, and Keras saves through it.
KERAS_WARNINGS = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(quiet=True)


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
