"""The worker process: `serving.jobs.supervisor` starts it, and starts another when it dies.

The supervisor writes the plan as one line of JSON to standard input. So settings with passwords are neither on the
command line nor in a file, and the models need not be looked up again. Orders to stop follow on later lines. Standard
input stays open as long as the supervisor lives. At its end this process ends too, so that a killed supervisor leaves
no worker behind.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import REGISTRY

from serving.core.errors import ConfigurationError, ModelError
from serving.jobs.journal import Journal
from serving.jobs.metrics import JobMetrics
from serving.jobs.store import open_store
from serving.jobs.watchdog import Watchdog
from serving.jobs.work import Work
from serving.jobs.worker import Worker
from serving.logs import configure_logging
from serving.settings import Settings
from serving.store.models import ModelMetadata, StoredModel

logger = logging.getLogger("serving.jobs.process")

EXIT_CONFIGURATION = 78
"""The worker cannot start with this configuration, and another start would not help."""
EXIT_ORPHANED = 70
DRAIN = b"drain\n"
HURRY = b"hurry\n"
_GC_THRESHOLDS = (50_000, 20, 50)


class ModelPlan(msgspec.Struct, frozen=True):
    """A stored model and its path: the fields of a StoredModel, with its metadata as JSON."""

    tag: str
    path: str
    created_at: str
    metadata: dict[str, Any]


class Plan(msgspec.Struct, frozen=True):
    """What a worker process has to do.

    Attributes:
        owner: name of the owner of its leases.
        settings: all settings, as JSON.
        models: by name.
        port: of `/readyz` and `/metrics`; with `None` there is no port.
        eager: load the engines before the first job comes.
        work: `module:function` that makes the Work of a model, called as `serving.jobs.work.open_work` is.
        journal: descriptor of the journal that the supervisor reads.
    """

    owner: str
    settings: dict[str, Any]
    models: dict[str, ModelPlan | None]
    concurrency: int
    port: int | None
    eager: bool
    work: str
    journal: int


def plan_of(model: StoredModel) -> ModelPlan:
    return ModelPlan(model.tag, str(model.path), model.created_at, model.metadata.model_dump(mode="json"))


def main() -> None:
    """Run until told to stop; see the exit codes above and in `serving.jobs.watchdog`."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    settings = Settings(**plan.settings)
    configure_logging(settings.logging)
    try:
        asyncio.run(_run(plan, settings))
    except (ModelError, ConfigurationError) as error:
        logger.error("the worker cannot start: %s", error)
        _exit(EXIT_CONFIGURATION)
    except Exception:
        logger.exception("the worker has failed")
        _exit(1)
    _exit(0)


def _obey(worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
    """Follow the supervisor's orders, in a thread. When the supervisor ends, this process ends."""
    for line in sys.stdin.buffer:
        _call(loop, worker.hurry if line == HURRY else worker.drain)
    os._exit(EXIT_ORPHANED)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the worker has drained
        loop.call_soon_threadsafe(function)


def _exit(code: int) -> None:
    """Do not wait for threads: one reads standard input, and another may hang in an engine."""
    logging.shutdown()
    os._exit(code)


async def _run(plan: Plan, settings: Settings) -> None:
    make_work = _find(plan.work)
    works = {name: make_work(name, _model(model), settings) for name, model in plan.models.items()}
    metrics = JobMetrics(duration_buckets=settings.metrics.duration_buckets, registry=REGISTRY)
    metrics.serves(works)
    watchdog = Watchdog(settings.jobs.job_timeout_seconds)
    worker = Worker(
        owner=plan.owner,
        works=works,
        settings=settings,
        make_store=partial(open_store, settings.jobs),
        metrics=metrics,
        watchdog=watchdog,
        concurrency=plan.concurrency,
        eager=plan.eager,
        journal=Journal(plan.journal),
    )
    loop = asyncio.get_running_loop()
    threading.Thread(target=_obey, args=(worker, loop), name="supervisor", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        # BentoML signals the children of its processes too, once or several times, which means one drain. These
        # handlers outlast those of the event loop, so that a late signal does not kill the process at its end.
        signal.signal(number, lambda *_: _call(loop, worker.drain))
    watchdog.start()
    if settings.server.freeze_gc:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
    async with nullcontext() if plan.port is None else _answering(worker, plan.port):
        await worker.run()


def _answering(worker: Worker, port: int) -> AbstractAsyncContextManager[None]:
    # Imported only here: a worker beside the API needs no server, and starts sooner without one.
    from serving.jobs.worker_http import answering, listen, make_app

    try:
        listener = listen(port)
    except OSError as error:
        raise ConfigurationError(f"jobs.worker_port: {error}") from error
    logger.info("readiness and metrics on port %d", listener.getsockname()[1])
    return answering(make_app(ready=lambda: worker.ready, registry=REGISTRY), listener)


def _find(name: str) -> Callable[[str, StoredModel | None, Settings], Work]:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _model(plan: ModelPlan | None) -> StoredModel | None:
    if plan is None:
        return None
    return StoredModel(plan.tag, Path(plan.path), plan.created_at, ModelMetadata.model_validate(plan.metadata))
