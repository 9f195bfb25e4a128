"""BentoML's adaptive batching as its documentation shows it: `batchable=True`, otherwise the default configuration.

`StockBatchable` batches in the process that answers HTTP, and its answer is the bare array: what is batched has
to be one. `StockComposed` reaches the same service through `depends()`, which is another process.
"""

from __future__ import annotations

import bentoml
import numpy as np
from numpy.typing import NDArray


@bentoml.service
class StockBatchable:
    def __init__(self) -> None:
        from benchmarks.peers.model import IrisModel

        self.model = IrisModel()

    @bentoml.api(batchable=True)
    def predict(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.model.predict(data)


@bentoml.service
class StockComposed:
    runner = bentoml.depends(StockBatchable)

    @bentoml.api
    async def predict(self, data: list[list[float]]) -> dict[str, list[list[float]]]:
        probabilities = await self.runner.to_async.predict(data=np.array(data, dtype=np.float32))
        return {"prediction": probabilities.tolist()}
