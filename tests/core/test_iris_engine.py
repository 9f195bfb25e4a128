"""The iris engine on the trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.core.probabilities import Probabilities


@pytest.fixture(scope="module")
def engine(model_store: Path) -> Probabilities:  # noqa: ARG001
    return Probabilities("iris")


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    low, high = [4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5]
    return np.random.default_rng(0).uniform(low, high, (257, 4)).astype(np.float32)


def test_one_probability_per_class_and_row(engine: Probabilities, rows: np.ndarray) -> None:
    answer = engine.predict(rows)
    assert (answer.dtype, answer.shape) == (np.float32, (257, 3))
    assert (answer >= 0).all()
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "label"),
    [([5.1, 3.5, 1.4, 0.2], "setosa"), ([6.0, 2.7, 4.2, 1.3], "versicolor"), ([6.5, 3.0, 5.8, 2.2], "virginica")],
)
def test_it_knows_typical_flowers(engine: Probabilities, row: list[float], label: str) -> None:
    (answer,) = engine.predict(np.array([row], np.float32))
    assert engine.stored.metadata.labels[int(answer.argmax())] == label
    assert answer.max() > 0.8


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 17, 64, 257])
def test_a_row_gets_the_same_bits_alone_and_in_a_batch(engine: Probabilities, rows: np.ndarray, batch: int) -> None:
    alone = np.concatenate([engine.predict(row[np.newaxis]) for row in rows[:batch]])
    assert engine.predict(rows[:batch]).tobytes() == alone.tobytes()


def test_a_row_does_not_see_its_neighbours(engine: Probabilities, rows: np.ndarray) -> None:
    spoilt = rows[:8].copy()
    spoilt[3] = np.nan
    expected, answer = engine.predict(rows[:8]), engine.predict(spoilt)
    others = [0, 1, 2, 4, 5, 6, 7]
    assert answer[others].tobytes() == expected[others].tobytes()


def test_threads_do_not_change_the_answer(engine: Probabilities, rows: np.ndarray) -> None:
    assert Probabilities("iris", threads=2).predict(rows).tobytes() == engine.predict(rows).tobytes()
