"""The InceptionV3 engine on seeded random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.core.errors import InvalidInputError, ModelError
from tests.core.probabilities import Probabilities


@pytest.fixture(scope="module")
def engine(model_store: Path) -> Probabilities:  # noqa: ARG001
    return Probabilities("inception_v3")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 299, 299, 3), np.uint8)


def test_a_single_image_and_a_batch(engine: Probabilities, images: np.ndarray) -> None:
    batch = engine.predict(images)
    assert (batch.dtype, batch.shape) == (np.float32, (3, 1000))
    np.testing.assert_allclose(batch.sum(axis=1), 1, atol=1e-5)
    alone = np.concatenate([engine.predict(image[np.newaxis]) for image in images])
    # Convolutions block their sums by the batch, so the last bits may differ.
    np.testing.assert_allclose(alone, batch, atol=1e-5)


def test_it_looks_at_the_image(engine: Probabilities, images: np.ndarray) -> None:
    dark, bright = engine.predict(np.stack([images[0] // 4, 255 - images[0] // 4]))
    assert np.abs(dark - bright).max() > 1e-3


def test_normalisation_is_in_the_graph(engine: Probabilities) -> None:
    with pytest.raises(InvalidInputError, match="cannot compute these values or shapes"):
        engine.predict(np.zeros((1, 299, 299, 3), np.float32))  # type: ignore[arg-type]


@pytest.mark.usefixtures("model_store")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(ModelError, match="CUDAExecutionProvider is not in the installed onnxruntime"):
        Probabilities("inception_v3", providers=["CUDAExecutionProvider"])
