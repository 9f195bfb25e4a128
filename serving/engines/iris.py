"""The iris classifier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.engines.session import describe, open_session
from serving.store.models import StoredModel

FEATURES = 4


class IrisEngine:
    """Probabilities of the three species from four measurements.

    Raises:
        ModelError: the stored model cannot be loaded.
    """

    def __init__(self, model: StoredModel, *, threads: int = 1) -> None:
        self.model = model
        self._session = open_session(model, threads=threads, spin=False)
        self.description = describe(self._session)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            features: float32 `[N, 4]`, sepal length and width, petal length and width, in cm.

        Returns:
            float32 `[N, 3]`; a row sums to 1.
        """
        (probabilities,) = self._session.run(self._outputs, {self._input: features})
        return probabilities

    def warm_up(self) -> None:
        """Run once, so that the first caller does not pay for lazy allocation."""
        self.predict(np.zeros((1, FEATURES), np.float32))
