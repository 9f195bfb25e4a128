"""Iris predictions: from rows to answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.bento.tensor_link import Submit
from serving.core.admission import Admission
from serving.core.ranking import Probabilities, finite
from serving.engines import IrisEngine
from serving.http.description import describe
from serving.http.disconnect import while_connected
from serving.http.request import current_request
from serving.http.schemas import SAMPLE_ROW, IrisLabels, IrisProbabilities

Features = NDArray[np.float32]


class IrisHandler:
    """Answers from the engine of this process; `batched` from the runner, which batches across workers.

    A model of microseconds is not worth a hop to another process, so the hop is made only where it is asked for.
    """

    def __init__(
        self,
        engine: IrisEngine,
        *,
        batched: Submit,
        admission: Admission,
    ) -> None:
        self.engine = engine
        self.model = engine.model
        self.labels = self.model.metadata.labels
        self.sample = np.array([SAMPLE_ROW], np.float32)
        self._batched = batched
        self.admission = admission
        """Of the batched requests; the others are answered in one go, so that none of them is ever held."""
        self.description = describe(
            self.model,
            sample_request={"data": [SAMPLE_ROW]},
            sample_response={"prediction": self.probabilities(self.sample)},
        )

    def probabilities(self, rows: Features) -> list[list[float]]:
        """float32 `[N, 4]` to N lists of class probabilities."""
        return finite(self.engine.predict(rows))

    def most_probable(self, rows: Features) -> list[str]:
        """float32 `[N, 4]` to N labels."""
        probabilities = self.engine.predict(rows)
        finite(probabilities)
        return [self.labels[index] for index in probabilities.argmax(axis=1).tolist()]

    def predict(self, rows: Features) -> IrisProbabilities:
        _note(rows)
        return IrisProbabilities.model_construct(prediction=self.probabilities(rows))

    def predict_labels(self, rows: Features) -> IrisLabels:
        _note(rows)
        return IrisLabels.model_construct(prediction=self.most_probable(rows))

    async def probabilities_batched(self, rows: Features) -> list[list[float]]:
        """As `probabilities`, from the runner; what waits there is dropped when the client leaves.

        Raises:
            OverloadedError: this process holds as many of them as it may.
        """
        request = current_request.get()
        with self.admission.admit():
            async with while_connected(request.receive):
                return finite(await self._batched(rows, expires_in=request.expires_in()))

    async def infer(self, rows: Features, *, expires_in: float, batched: bool) -> Probabilities:
        """float32 `[N, 4]` to float32 `[N, classes]`, for whoever watches client and time limit himself.

        Raises:
            OverloadedError: as `probabilities_batched`.
        """
        if not batched:
            return self.engine.predict(rows)
        with self.admission.admit():
            return await self._batched(rows, expires_in=expires_in)

    async def predict_batched(self, rows: Features) -> IrisProbabilities:
        _note(rows)
        return IrisProbabilities.model_construct(prediction=await self.probabilities_batched(rows))


def _note(rows: Features) -> None:
    current_request.get().size = f"rows={len(rows)}"
