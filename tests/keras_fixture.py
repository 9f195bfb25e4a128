"""Keras for tests that compare with it; a conftest imports the fixture."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on TensorFlow, imported once for all tests."""
    from train import tensorflow_setup

    tensorflow_setup.load()
    import keras

    return keras
