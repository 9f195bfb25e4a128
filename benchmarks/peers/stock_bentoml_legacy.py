"""BentoML's first form of adaptive batching: a runner behind `bentoml.legacy.Service`, default configuration."""

from __future__ import annotations

from typing import Any

import bentoml
import numpy as np
from bentoml.io import JSON
from numpy.typing import NDArray


class IrisRunnable(bentoml.legacy.Runnable):
    SUPPORTED_RESOURCES = ("cpu",)
    SUPPORTS_CPU_MULTI_THREADING = True  # one runner process, as everybody else has

    def __init__(self) -> None:
        from benchmarks.peers.model import IrisModel

        self.model = IrisModel()

    @bentoml.legacy.Runnable.method(batchable=True)
    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.model.predict(rows)


runner = bentoml.legacy.Runner(IrisRunnable, name="iris_runner")
svc = bentoml.legacy.Service("stock_legacy", runners=[runner])


@svc.api(input=JSON(), output=JSON(), route="/predict")
async def predict(request: dict[str, Any]) -> dict[str, list[list[float]]]:
    probabilities = await runner.predict.async_run(np.array(request["data"], dtype=np.float32))
    return {"prediction": probabilities.tolist()}
