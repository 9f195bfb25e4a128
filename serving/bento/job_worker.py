"""The embedded worker: a BentoML service without routes, whose process supervises a worker process.

So `bentoml serve` needs no second command where the store is a file. The worker proper is a child, as it is with
`serving worker`: an engine that hangs or crashes takes neither this process nor the API with it.
"""

from __future__ import annotations

import asyncio
import logging

import bentoml

from serving.bento.process import ServerProcess
from serving.bento.service import LeanService, server_config
from serving.jobs.supervisor import Supervisor, open_models
from serving.settings import get_settings

logger = logging.getLogger("serving.bento.job_worker")

NAME = "job_worker"
_settings = get_settings()


@bentoml.service(name=NAME, service_class=LeanService, **server_config(_settings))
class JobWorker:
    @bentoml.on_startup
    async def start(self) -> None:
        self.process = ServerProcess(_settings, runner_name=NAME)
        # Engines are loaded at the first job: the server starts as quickly as without jobs.
        self.supervisor = Supervisor(_settings, models=open_models(_settings), eager=False)
        self.process.start_beside(on_stop=self.supervisor.stop, ended=lambda: self.supervisor.ended)
        self.running = asyncio.create_task(self.supervisor.run())
        self.running.add_done_callback(self._ended)
        self.process.loaded()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        # After a drain it has ended; where it has not, this ends it.
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    @staticmethod
    def _ended(running: asyncio.Task[int]) -> None:
        if running.cancelled():
            return
        error = running.exception()
        if error is not None or running.result():
            logger.error("jobs are accepted but nobody does them: the worker cannot be started", exc_info=error)
