"""Models out of other packages are served after `serving models add` alone, and answer as ONNX Runtime does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serving.add.add import add_model
from serving.add.options import AddOptions
from serving.store.models import open_model
from tests import packages
from tests.add.graphs import Asked

pytestmark = [pytest.mark.packages, pytest.mark.usefixtures("bentoml_home")]


def test_magika(tmp_path: Path) -> None:
    file = packages.magika(tmp_path)
    stored = open_model(add_model(file, AddOptions(name="magika")).tag)
    metadata = stored.metadata
    assert (metadata.kind, metadata.task, metadata.batching) == ("tensors", "classification", "free")
    assert metadata.outputs[0].shape == [None, 214]
    # Beginnings of a file of Python and of one of JSON, as the package hands them over: padded with 256.
    text = Path(__file__).read_bytes()[:1024], json.dumps(metadata.to_store()).encode()[:1024]
    given = np.full((2, 2048), 256, np.int32)
    for row, content in enumerate(text):
        given[row, : len(content)] = np.frombuffer(content, np.uint8)
    (expected,) = onnxruntime.InferenceSession(file).run(None, {"bytes": given})
    found = Asked(stored).predict({"inputs": {"bytes": given.tolist()}})["outputs"]["target_label"]
    assert np.allclose(found, expected, atol=1e-6)


def test_the_direction_of_text(tmp_path: Path) -> None:
    file = packages.text_direction(tmp_path)
    stored = open_model(add_model(file, AddOptions(name="direction")).tag)
    metadata = stored.metadata
    assert (metadata.kind, metadata.task, metadata.batching) == ("tensors", "classification", "free")
    assert metadata.inputs[0].shape == [None, 3, None, None]
    given = np.random.default_rng(0).normal(size=(2, 3, 48, 192)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(file).run(None, {"x": given})
    (found,) = Asked(stored).predict({"inputs": {"x": given.tolist()}})["outputs"].values()
    assert np.allclose(found, expected, atol=1e-6)
