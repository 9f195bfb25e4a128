"""LitServe with adaptive batching: up to 32 requests in a call, of which the first waits at most 1 ms.

`python -m benchmarks.peers.litserve_batching PORT`. One API server process and one worker process.
"""

import sys

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

MAX_BATCH_SIZE = 32
BATCH_TIMEOUT = 0.001
"""Seconds."""


class IrisAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature is the framework's
        from benchmarks.peers.model import IrisModel

        self.model = IrisModel()

    def decode_request(self, request: Request) -> NDArray[np.float32]:
        # LitServe looks at the annotation, and hands over the decoded JSON when it says `Request`.
        return np.array(request["data"], dtype=np.float32)

    def batch(self, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return inputs

    def predict(self, x: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        ends = np.cumsum([len(rows) for rows in x])[:-1]
        return np.split(self.model.predict(np.concatenate(x)), ends)

    def unbatch(self, output: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return output

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, list[list[float]]]:
        return {"prediction": output.tolist()}


def main() -> None:
    api = IrisAPI(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
