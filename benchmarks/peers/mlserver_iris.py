"""MLServer's runtime for the iris model: V2 inference protocol in and out, a float32 tensor `[N, 4]` to `[N, 3]`.

`mlserver start` takes its settings from the environment; see `benchmarks/batching_contenders.py`.
"""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class IrisRuntime(MLModel):
    async def load(self) -> bool:
        from benchmarks.peers.model import IrisModel

        self.iris = IrisModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        output = NumpyCodec.encode_output("prediction", self.iris.predict(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
