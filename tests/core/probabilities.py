"""An engine of a classifier, asked with one array and answering one."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.placement import open_engine
from serving.settings import get_settings
from serving.store.models import open_model

Rows = np.ndarray[Any, Any]


class Probabilities:
    """The engine of a model of the configuration, with changes to its entry."""

    def __init__(self, name: str, **changes: Any) -> None:
        self.settings = get_settings().models[name].model_copy(update=changes)
        self.stored = open_model(self.settings.tag)
        self.engine = open_engine(self.stored, self.settings)
        self._input = self.stored.metadata.inputs[0].name
        self._output = self.stored.metadata.scores

    def predict(self, rows: Rows) -> Rows:
        """`[N, …]` to `[N, classes]`."""
        return self.engine.run({self._input: rows})[self._output]
