"""BentoML as its documentation begins: a new-style service, default configuration, `bentoml serve`.

The API's JSON object is BentoML's for a parameter called `data`; the answer is a mapping so that it is the
same JSON as everybody else's.
"""

import bentoml
import numpy as np


@bentoml.service
class StockIris:
    def __init__(self) -> None:
        from benchmarks.peers.model import IrisModel

        self.model = IrisModel()

    @bentoml.api
    def predict(self, data: list[list[float]]) -> dict[str, list[list[float]]]:
        return {"prediction": self.model.predict(np.array(data, dtype=np.float32)).tolist()}
