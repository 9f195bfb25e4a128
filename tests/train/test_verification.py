"""Each check must be able to fail."""

from __future__ import annotations

import numpy as np
import pytest

from train.errors import VerificationError
from train.verification import compare, compare_labels, compare_pixels

ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
NAMES = ["a", "b", "c"]


def test_the_largest_difference_is_returned() -> None:
    other = ROWS + np.array([[0.01, -0.01, 0], [0, 0, 0]], dtype=np.float32)

    result = compare(other, ROWS, tolerance=0.02, what="it")

    assert result.inputs == 2
    assert result.max_abs_difference == pytest.approx(0.01, abs=1e-6)
    assert result.tolerance == 0.02


@pytest.mark.parametrize(
    ("exported", "complaint"),
    [
        (ROWS + np.array([[0.03, -0.03, 0], [0, 0, 0]]), "differ by up to 0.03"),
        (ROWS[:1], "shape"),
        (ROWS[:, :2], "shape"),
        (np.full_like(ROWS, np.nan), "not finite"),
        (ROWS * 2, "sum to 1"),
        (ROWS[:0], "shape"),
    ],
)
def test_what_differs_is_refused(exported: np.ndarray, complaint: str) -> None:
    with pytest.raises(VerificationError, match=complaint):
        compare(exported, ROWS, tolerance=0.02, what="it")


def test_logits_cannot_pass_for_probabilities() -> None:
    logits = np.array([[3.0, -1.0, 0.5]])

    with pytest.raises(VerificationError, match="sum to 1"):
        compare(logits, logits, tolerance=1, what="it")


def test_nothing_at_all_proves_nothing() -> None:
    with pytest.raises(VerificationError, match="shape"):
        compare(ROWS[:0], ROWS[:0], tolerance=1, what="it")


def test_labels() -> None:
    compare_labels(["a", "c"], ROWS, NAMES, margin=0.0, what="it")
    with pytest.raises(VerificationError, match="input 1 is 'b' instead of 'c'"):
        compare_labels(["a", "b"], ROWS, NAMES, margin=0.1, what="it")
    with pytest.raises(VerificationError, match="1 labels for 2 inputs"):
        compare_labels(["a"], ROWS, NAMES, margin=0.1, what="it")


def test_a_label_within_the_margin_is_as_good() -> None:
    row = np.array([[0.45, 0.44, 0.11]])

    compare_labels(["b"], row, NAMES, margin=0.02, what="it")
    with pytest.raises(VerificationError):
        compare_labels(["b"], row, NAMES, margin=0.001, what="it")


def test_pixels() -> None:
    black = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    compare_pixels(black + 1, black, tolerance=1, what="it")
    with pytest.raises(VerificationError, match="up to 255"):  # not -1 modulo 256
        compare_pixels(black + 255, black, tolerance=1, what="it")
    with pytest.raises(VerificationError, match="images of"):
        compare_pixels(black[:, :1], black, tolerance=1, what="it")
