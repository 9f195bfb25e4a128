"""Rows of values, to tensors and back."""

from __future__ import annotations

import numpy as np
import pytest

from serving.codecs.columns import to_values
from serving.core.columns import columns_of
from serving.store.models import open_model


@pytest.mark.usefixtures("model_store")
def test_values_of_a_sample_are_as_a_person_writes_them() -> None:
    metadata = open_model("iris:latest").metadata
    rows = np.array([[5.1, 3.5, 1e-7, np.nan]], np.float32)
    assert to_values({metadata.inputs[0].name: rows}, columns_of(metadata)) == [[5.1, 3.5, 1e-07, None]]
