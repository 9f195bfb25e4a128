"""From scores to probabilities, and from probabilities to classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.errors import ErrorDetail, InvalidInputError
from serving.core.ranking import RankedClass, choose_top_k, most_probable, rank, to_probabilities

LABELS = ["a", "b", "c"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_softmax_sums_to_one_and_never_overflows(scores: list[list[float]]) -> None:
    found = to_probabilities(np.array(scores, np.float32), "softmax", 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found >= 0).all()
    best = np.array(scores, np.float32).argmax(axis=1)
    assert (found[np.arange(len(found)), best] == found.max(axis=1)).all()


def test_softmax_is_that_of_the_formula() -> None:
    scores = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(to_probabilities(scores, "softmax", 3), np.exp(scores) / np.exp(scores).sum())


@pytest.mark.parametrize(("score", "expected"), [(0, 0.5), (100, 1), (-100, 0), (1e4, 1), (-1e4, 0), (2, 0.880797)])
def test_sigmoid_never_overflows(score: float, expected: float) -> None:
    for shape in ((1,), (1, 1)):
        found = to_probabilities(np.full(shape, score, np.float32), "sigmoid", 2)
        assert found.shape == (1, 2)
        np.testing.assert_allclose(found, [[1 - expected, expected]], atol=1e-6)


def test_sigmoid_of_several_classes_is_one_for_each() -> None:
    found = to_probabilities(np.zeros((2, 3), np.float32), "sigmoid", 3)
    assert found.tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_probability_of_two_classes_is_that_of_the_second(shape: tuple[int, ...]) -> None:
    scores = np.array([0.25, 0.5, 1], np.float32).reshape(shape)
    assert to_probabilities(scores, "none", 2).tolist() == [[0.75, 0.25], [0.5, 0.5], [0, 1]]


def test_probabilities_of_all_classes_are_left_alone() -> None:
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    assert to_probabilities(scores, "none", 3) is scores


@pytest.mark.parametrize(("asked", "classes", "named"), [
    (None, 1, 1), (None, 2, 2), (None, 5, 5), (None, 6, 5), (None, 1000, 5), (1, 2, 1), (2, 2, 2), (6, 6, 6),
])  # fmt: skip
def test_five_are_named_or_all_where_there_are_fewer(asked: int | None, classes: int, named: int) -> None:
    assert choose_top_k(asked, ["x"] * classes) == named


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_more_than_there_are_cannot_be_named(classes: int) -> None:
    with pytest.raises(InvalidInputError) as caught:
        choose_top_k(classes + 1, ["x"] * classes)
    message = f"at most {classes}, the number of classes"
    assert caught.value.message == f"top_k: {message}"
    assert caught.value.details == (ErrorDetail("top_k", message),)


def test_the_best_come_first_and_equal_ones_by_their_ids() -> None:
    found = rank(np.array([0.25, 0.5, 0.25]), LABELS, 3)
    assert found == [RankedClass("b", 1, 0.5), RankedClass("a", 0, 0.25), RankedClass("c", 2, 0.25)]
    assert rank(np.array([0.25, 0.5, 0.25]), LABELS, 1) == found[:1]


def test_each_row_has_its_label() -> None:
    assert most_probable(np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]]), LABELS) == ["b", "a"]
