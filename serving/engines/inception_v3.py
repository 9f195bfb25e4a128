"""The InceptionV3 image classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.engines.session import describe, open_session
from serving.store.models import StoredModel

IMAGE_SHAPE = (299, 299, 3)


class InceptionV3Engine:
    """Class probabilities of images. Normalisation and softmax are inside the graph.

    Raises:
        ModelError: the stored model cannot be loaded, or a provider is not installed.
    """

    def __init__(
        self, model: StoredModel, *, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        self.model = model
        # Threads that do not spin between two calls leave the cores to the API workers that decode the next image.
        self._session = open_session(model, threads=threads, spin=False, providers=providers)
        self.description = describe(self._session)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: uint8 `[N, 299, 299, 3]`, RGB.

        Returns:
            float32 `[N, classes]`; a row sums to 1.
        """
        (probabilities,) = self._session.run(self._outputs, {self._input: images})
        return probabilities

    def warm_up(self) -> None:
        """Run once, so that the first caller does not pay for lazy allocation."""
        self.predict(np.zeros((1, *IMAGE_SHAPE), np.uint8))
