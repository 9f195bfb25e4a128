"""Work without a model: its jobs do what they are told, and much of that is bad.

A worker process is told of `tests.jobs.misbehaving:open_work` by its supervisor; requests cannot ask for it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from serving.core.errors import InvalidInputError
from serving.jobs.job import Claimed, NewJob
from serving.jobs.work import Answer, Prepared
from serving.settings import Settings
from serving.store.models import StoredModel
from tests.jobs.factory import new_job

OPEN_WORK = "tests.jobs.misbehaving:open_work"


def order(do: str, *, log: Path | None = None, **changes: Any) -> NewJob:
    """A job that does `do`, as `Misbehaving.run` names it, and says in `log` that it has started."""
    parameters = {"do": do, "log": str(log) if log else None}
    return new_job(**{"parameters": msgspec.json.encode(parameters).decode(), **changes})


def starts(log: Path) -> list[str]:
    """What has been started, in order."""
    return log.read_text().split() if log.exists() else []


class Misbehaving:
    def __init__(self, max_batch_rows: int = 1) -> None:
        self.max_batch_rows = max_batch_rows
        self.decode_threads = 2

    def open(self) -> None:
        """There is nothing to load."""

    def prepare(self, claimed: Claimed) -> Prepared:
        parameters = msgspec.json.decode(claimed.parameters)
        if parameters["do"] == "spoil":
            raise InvalidInputError("the payload is spoilt")
        return Prepared(parameters | {"id": claimed.lease.job_id}, {})

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        return [self._do(**prepared.request) for prepared in batch]

    def _do(self, do: str, log: str | None, **_: Any) -> Answer:
        if log:
            with Path(log).open("a") as file:
                file.write(f"{do}\n")
        name, _, seconds = do.partition(":")
        if name == "sleep":
            time.sleep(float(seconds))
        elif name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "hang":
            time.sleep(600)
        elif name == "hog":  # for longer than anybody waits, and never gives the interpreter's lock back
            re.match(r"(a|a)+$", "a" * 64 + "b")
        elif name == "raise":
            raise RuntimeError("the engine's own secret")
        elif name == "refuse":
            return InvalidInputError("this cannot be predicted")
        return msgspec.json.encode({"done": name})


def open_work(_name: str, _model: StoredModel | None, _settings: Settings) -> Misbehaving:
    return Misbehaving()


def open_batching_work(_name: str, _model: StoredModel | None, _settings: Settings) -> Misbehaving:
    return Misbehaving(max_batch_rows=8)
