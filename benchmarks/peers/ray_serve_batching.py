"""Ray Serve with batching: up to 32 requests in a call, no wait; one replica and one HTTP proxy.

`python -m benchmarks.peers.ray_serve_batching PORT`. Ray runs on the loopback device, without its dashboard.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from starlette.requests import Request

MAX_BATCH_SIZE = 32
BATCH_WAIT = 0.0
"""Seconds."""
MAX_ONGOING = 1000
"""Requests that the proxy hands to the replica at a time: the default of 5 would keep batches small."""
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
OBJECT_STORE_BYTES = 100_000_000


@serve.deployment(num_replicas=1, max_ongoing_requests=MAX_ONGOING, logging_config=QUIET)
class Iris:
    def __init__(self) -> None:
        from benchmarks.peers.model import IrisModel

        self.model = IrisModel()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT)
    async def predict(self, requests: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        ends = np.cumsum([len(rows) for rows in requests])[:-1]
        return np.split(self.model.predict(np.concatenate(requests)), ends)

    async def __call__(self, request: Request) -> dict[str, list[list[float]]]:
        rows = np.array((await request.json())["data"], dtype=np.float32)
        return {"prediction": (await self.predict(rows)).tolist()}


def main() -> None:
    # Ray keeps sockets under this directory, whose paths may have about 100 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        ray.init(
            num_cpus=4,  # controller, proxy and replica ask for places, not for cores
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=directory,
            logging_level="warning",
        )
        # After Ray has put its own handler in: that one ends the process without tidying up.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        serve.start(
            http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
            logging_config=QUIET,
        )
        serve.run(Iris.bind(), route_prefix="/predict")
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
