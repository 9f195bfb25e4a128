"""The engines as BentoML services: one process each, with a plain and an adaptive-batching API.

BentoML's decorators want their numbers while the classes are made, so the settings are read at import. Its own
`batchable=True` is not used: its dispatcher keeps waiting after a burst, has no bound, and lets one bad row fail
its neighbours.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
import numpy as np
from bentoml.container import BentoMLContainer

from serving.batching import MicroBatcher
from serving.engines import ImageEngine, IrisEngine, open_inception_v3
from serving.engines.inception_v3 import IMAGE_SHAPE
from serving.engines.iris import FEATURES
from serving.engines.selection import check_engine
from serving.errors import ModelError
from serving.models import open_model
from serving.process import ServerProcess
from serving.server import LeanService, LocalModel, server_config
from serving.settings import get_settings
from serving.tensor_http import Rows, Submit, TensorClient, TensorPlane

logger = logging.getLogger("serving.runners")

API_NAME = "model_serving"
# BentoML reads the type of the elements from the annotation. It cannot read NDArray of numpy 2.5, an alias that is
# resolved late, and then the service does not start.
Floats = np.ndarray[Any, np.dtype[np.float32]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
_settings = get_settings()


class _Runner:
    """An engine behind its batcher."""

    model_name: str
    engine: IrisEngine | ImageEngine
    batcher: MicroBatcher

    @bentoml.on_startup
    def start(self) -> None:
        self.process = ServerProcess(_settings, runner_name=f"{self.model_name}_runner")
        self.process.start_runner(drains_after=API_NAME)
        self.batcher.observer = self.process.metrics.batches(self.model_name)
        self.engine.warm_up()
        # Which engine answers may depend on the machine, so it is said.
        logger.info("%s: %s", self.model_name, self.engine.description)
        self.process.loaded()

    async def submit(self, rows: Rows, *, expires_in: float = math.inf, alone: bool = False) -> Rows:
        """See `MicroBatcher.submit`."""
        return await self.batcher.submit(rows, expires_in=expires_in, alone=alone)


@bentoml.service(name="iris_runner", service_class=LeanService, **server_config(_settings))
class IrisRunner(_Runner):
    model_name = "iris"
    model = LocalModel(_settings.iris.tag)

    def __init__(self) -> None:
        self.engine = IrisEngine(open_model(_settings.iris.tag), threads=_settings.iris.threads)
        # In the event loop: the call is shorter than the way to a thread and back.
        self.batcher = MicroBatcher(
            self.engine.predict,
            max_batch_rows=_settings.iris.batching.max_batch_rows,
            max_queue_rows=_settings.iris.batching.max_queue_rows,
            linger_seconds=_settings.iris.batching.linger_ms / 1e3,
        )

    @bentoml.api
    async def predict(self, features: Floats) -> Floats:
        """float32 `[N, 4]` to float32 `[N, 3]`, in an engine call of its own."""
        return await self.submit(features, alone=True)

    @bentoml.api
    async def predict_batched(self, features: Floats) -> Floats:
        """float32 `[N, 4]` to float32 `[N, 3]`, in one engine call with whatever waits."""
        return await self.submit(features)


class _ImageModel(LocalModel):
    def resolve(self, *args: Any, **kwargs: Any) -> bentoml.Model:
        """As of any model, and refused as early when its engine is not installed."""
        try:
            check_engine(_settings.inception_v3.engine)
        except ModelError as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error
        return super().resolve(*args, **kwargs)


@bentoml.service(
    name="inception_v3_runner",
    service_class=LeanService,
    **server_config(_settings, workers=_settings.inception_v3.runner_workers),
)
class InceptionV3Runner(_Runner):
    model_name = "inception_v3"
    model = _ImageModel(_settings.inception_v3.tag)

    def __init__(self) -> None:
        self.engine = open_inception_v3(
            open_model(_settings.inception_v3.tag),
            engine=_settings.inception_v3.engine,
            threads=_settings.inception_v3.threads,
            providers=_settings.inception_v3.providers,
            openvino_precision=_settings.inception_v3.openvino_precision,
        )
        # One call at a time: it uses all the threads there are.
        self.batcher = MicroBatcher(
            self.engine.predict,
            max_batch_rows=_settings.inception_v3.batching.max_batch_rows,
            max_queue_rows=_settings.inception_v3.batching.max_queue_rows,
            linger_seconds=_settings.inception_v3.batching.linger_ms / 1e3,
            executor=ThreadPoolExecutor(1, "engine"),
        )

    @bentoml.api
    async def predict(self, images: Pixels) -> Floats:
        """uint8 `[N, 299, 299, 3]` to float32 `[N, classes]`, in an engine call of its own."""
        return await self.submit(images, alone=True)

    @bentoml.api
    async def predict_batched(self, images: Pixels) -> Floats:
        """uint8 `[N, 299, 299, 3]` to float32 `[N, classes]`, in one engine call with whatever waits."""
        return await self.submit(images)


def _submit_here() -> Submit:
    runner: _Runner = bentoml.get_current_service()
    return runner.submit


IrisRunner.add_asgi_middleware(TensorPlane, submit=_submit_here, dtype=np.float32, row_shape=(FEATURES,))  # type: ignore[attr-defined]
InceptionV3Runner.add_asgi_middleware(TensorPlane, submit=_submit_here, dtype=np.uint8, row_shape=IMAGE_SHAPE)  # type: ignore[attr-defined]


def connect(name: str, *, classes: int) -> TensorClient | None:
    """The client of a runner, `None` where BentoML has made the runner an object of this process.

    Args:
        name: of the runner's service.
        classes: columns of its answer.
    """
    runners: dict[str, Any] = BentoMLContainer.remote_runner_mapping.get()
    if name not in runners:
        return None
    return TensorClient(
        runners[name], dtype=np.float32, row_shape=(classes,), traced=_settings.tracing.exporter != "none"
    )
