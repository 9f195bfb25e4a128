"""The runners: BentoML services with engines behind batchers, in processes of their own.

A model has a runner of its own, or shares one with the models that name the same runner. BentoML's own
`batchable=True` is not used: its dispatcher keeps waiting after a burst, has no bound, and lets one bad row fail its
neighbours.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml

from serving.bento.process import ServerProcess
from serving.bento.service import LeanService, LocalModel, server_config
from serving.bento.tensor_link import TensorServer
from serving.core.batcher import MicroBatcher
from serving.core.engine import Engine
from serving.core.errors import NotFoundError
from serving.core.tensors import Tensors
from serving.placement import open_engine
from serving.settings import Settings, get_settings
from serving.settings.models import ModelSettings
from serving.store.models import open_model

logger = logging.getLogger("serving.runners")

API_NAME = "model_serving"


class ModelRunner:
    """One model behind its batcher."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self.name = name
        self.stored = open_model(settings.tag)
        self.engine: Engine = open_engine(self.stored, settings)
        metadata = self.stored.metadata
        limits = settings.limits(metadata.kind)
        self.batcher = MicroBatcher(
            self.engine.run,
            max_batch_rows=limits.max_batch_rows,
            max_queue_rows=limits.max_queue_rows,
            has_rows=metadata.signature.has_rows,
            varies=metadata.signature.varies,
            linger_seconds=settings.batching.linger_ms / 1e3,
            # Rows take microseconds, less than the way to a thread and back. Of others one call at a time runs, as it
            # uses all the threads there are.
            executor=None if metadata.kind == "rows" else ThreadPoolExecutor(1, f"engine-{name}"),
        )


class _Runner:
    """The service class of a runner; subclasses name it and its models."""

    runner_name: str
    entries: dict[str, ModelSettings]

    def __init__(self) -> None:
        self.models = {name: ModelRunner(name, entry) for name, entry in self.entries.items()}

    @bentoml.on_startup
    def start(self) -> None:
        self.process = ServerProcess(get_settings(), runner_name=self.runner_name)
        self.process.start_runner(drains_after=API_NAME)
        for model in self.models.values():
            model.batcher.observer = self.process.metrics.batches(model.name)
            model.engine.warm_up(model.stored.sample)
            # Which engine answers may depend on the machine, so it is said.
            logger.info("%s: %s", model.name, model.engine.description)
        self.process.loaded()

    async def submit(
        self, model: str, tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False
    ) -> Tensors:
        """See `MicroBatcher.submit`.

        Raises:
            NotFoundError: the runner has no such model.
        """
        found = self.models.get(model)
        if found is None:
            raise NotFoundError(f"the runner has no model {model}")
        return await found.batcher.submit(tensors, expires_in=expires_in, alone=alone)


def _submit_here(model: str, tensors: Tensors, **options: Any) -> Any:
    runner: _Runner = bentoml.get_current_service()
    return runner.submit(model, tensors, **options)


def make_runners(settings: Settings) -> dict[str, Any]:
    """The services of all runners by name. Every process of a server makes the same ones from the same settings."""
    services: dict[str, Any] = {}
    for runner_name, entries in settings.runners.items():
        namespace: dict[str, Any] = {"runner_name": runner_name, "entries": entries}
        namespace |= {f"{name}_model": LocalModel(entry.tag) for name, entry in entries.items()}
        workers = max(entry.runner_workers for entry in entries.values())
        service: Any = bentoml.service(
            name=runner_name, service_class=LeanService, **server_config(settings, workers=workers)
        )(type(runner_name, (_Runner,), namespace))
        service.add_asgi_middleware(TensorServer, submit=_submit_here)
        services[runner_name] = service
    return services
