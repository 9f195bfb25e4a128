"""What the real engines answer does not depend on what shares their calls."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.batcher import MicroBatcher
from tests.core.probabilities import Probabilities, Rows


@pytest.fixture(scope="module")
def iris(model_store: Path) -> Probabilities:  # noqa: ARG001
    return Probabilities("iris")


@pytest.fixture(scope="module")
def inception_v3(model_store: Path) -> Probabilities:  # noqa: ARG001
    return Probabilities("inception_v3")


@pytest.fixture(scope="module")
def images() -> Rows:
    return np.random.default_rng(0).integers(0, 256, (5, 299, 299, 3), np.uint8)


@pytest.fixture(scope="module")
def expected_of_images(inception_v3: Probabilities, images: Rows) -> Rows:
    """The answer for each image alone."""
    return np.concatenate([inception_v3.predict(image[np.newaxis]) for image in images])


def ask(
    engine: Probabilities, requests: list[tuple[Rows, bool, int]], *, max_batch_rows: int, in_thread: bool
) -> list[Rows]:
    """The answers to requests, each of rows, alone or not, and the loop's turns before it is sent."""

    async def send() -> list[Rows]:
        with ThreadPoolExecutor(1) as executor:
            batcher = MicroBatcher(
                engine.engine.run,
                max_batch_rows=max_batch_rows,
                max_queue_rows=100_000,
                executor=executor if in_thread else None,
            )

            async def one(rows: Rows, alone: bool, turns: int) -> Rows:
                for _ in range(turns):
                    await asyncio.sleep(0)
                found = await batcher.submit({engine.stored.metadata.inputs[0].name: rows}, alone=alone)
                return found[engine.stored.metadata.scores]

            return await asyncio.gather(*(one(*request) for request in requests))

    return asyncio.run(asyncio.wait_for(send(), 60))


_number = st.floats(-1e4, 1e4, width=32) | st.floats(0, 8, width=32)
_rows = st.lists(st.tuples(_number, _number, _number, _number), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(
    requests=st.lists(st.tuples(_rows, st.booleans(), st.integers(0, 3)), min_size=1, max_size=12),
    max_batch_rows=st.integers(1, 64),
    in_thread=st.booleans(),
)
def test_iris_rows_get_the_same_bits_in_any_batch(
    iris: Probabilities, requests: list[tuple[Any, bool, int]], max_batch_rows: int, in_thread: bool
) -> None:
    sent = [(np.array(rows, np.float32), alone, turns) for rows, alone, turns in requests]
    answers = ask(iris, sent, max_batch_rows=max_batch_rows, in_thread=in_thread)
    for answer, (rows, *_) in zip(answers, sent, strict=True):
        expected = np.concatenate([iris.predict(row[np.newaxis]) for row in rows])
        assert answer.tobytes() == expected.tobytes()


@settings(max_examples=5, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.booleans(), st.integers(0, 2)),
        min_size=2,
        max_size=4,
    ),
    max_batch_rows=st.integers(2, 8),
)
def test_images_get_the_same_probabilities_in_any_batch(
    inception_v3: Probabilities,
    images: Rows,
    expected_of_images: Rows,
    requests: list[tuple[list[int], bool, int]],
    max_batch_rows: int,
) -> None:
    sent = [(images[numbers], alone, turns) for numbers, alone, turns in requests]
    answers = ask(inception_v3, sent, max_batch_rows=max_batch_rows, in_thread=True)
    for answer, (numbers, *_) in zip(answers, requests, strict=True):
        np.testing.assert_allclose(answer, expected_of_images[numbers], atol=1e-5, rtol=0)
