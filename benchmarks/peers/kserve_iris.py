"""KServe's model server for the iris model: V2 inference protocol in and out, a float32 tensor `[N, 4]` to `[N, 3]`.

`python -m benchmarks.peers.kserve_iris <http port> <gRPC port>`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Iris(Model):
    def __init__(self) -> None:
        super().__init__("iris")
        self.load()

    def load(self) -> bool:
        from benchmarks.peers.model import IrisModel

        self.iris = IrisModel()
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        rows = payload.inputs[0].as_numpy().astype(np.float32, copy=False)
        probabilities = self.iris.predict(rows)
        binary = bool(payload.use_binary_outputs)
        output = InferOutput("prediction", list(probabilities.shape), "FP32")
        output.set_data_from_numpy(probabilities, binary_data=binary)
        return InferResponse(payload.id or "", "iris", [output], use_binary_outputs=binary)


if __name__ == "__main__":
    # One process, and no line in a log for each request, as everybody else.
    ModelServer(
        http_port=int(sys.argv[1]),
        grpc_port=int(sys.argv[2]),
        workers=1,
        enable_latency_logging=False,
        access_log_format=None,
    ).start([Iris()])
