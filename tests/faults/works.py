"""Jobs that sleep, wait, raise, hang or kill their worker, for real worker processes to run.

Every start and every end of a run is a line of a file that is written in one piece: it is there whatever becomes of the
process a moment later.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from serving.core.errors import ServingError
from serving.jobs.job import Claimed
from serving.jobs.work import Answer, Prepared
from serving.settings import Settings
from serving.store.models import StoredModel

MODEL = "faulty"
DIRECTORY_VARIABLE = "FAULTS_DIRECTORY"
BATCH_VARIABLE = "FAULTS_BATCH"
_HANG_SECONDS = 3600
_LOOK_SECONDS = 0.01


class Order(NamedTuple):
    """What a job does, in this order: the payload of a job.

    Attributes:
        seconds: how long it runs.
        gate: a file in the directory that it waits for, in attempts up to `gated_attempts`.
        kill: it kills its process.
        hang: it never ends.
        raise_attempts: attempts that raise, before one that succeeds.
        answer_bytes: of its result, besides what `Result` has.
    """

    seconds: float = 0.0
    gate: str = ""
    gated_attempts: int = 1000
    kill: bool = False
    hang: bool = False
    raise_attempts: int = 0
    answer_bytes: int = 0

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(**json.loads(payload))


class Line(NamedTuple):
    """`what` is `open`, `start` or `end`; `batch` the jobs of the engine call; `at` seconds since the epoch."""

    what: str
    job_id: str
    attempt: int
    pid: int
    batch: int
    at: float


def lines_file(directory: Path) -> Path:
    return directory / "lines"


def gate_file(directory: Path, name: str) -> Path:
    return directory / f"gate-{name}"


def read_lines(directory: Path) -> list[Line]:
    file = lines_file(directory)
    lines = file.read_text().splitlines() if file.exists() else []
    return [Line(**json.loads(line)) for line in lines]


class FaultyWork:
    """A Work without an engine. See `Order`."""

    def __init__(self, directory: Path, batch: int) -> None:
        self.max_batch_rows = batch
        self.decode_threads = 2
        self._directory = directory

    def open(self) -> None:
        self._write("open", {"job_id": "", "attempt": 0}, 0)

    def prepare(self, claimed: Claimed) -> Prepared:
        order = Order.decode(claimed.payload)
        lease = claimed.lease
        parameters = {"order": order, "job_id": lease.job_id, "attempt": lease.attempt}
        return Prepared(parameters, {})

    def run(self, batch: Sequence[Prepared]) -> list[Answer]:
        for prepared in batch:
            self._write("start", prepared.request, len(batch))
        time.sleep(max(prepared.request["order"].seconds for prepared in batch))
        answers = [self._answer(prepared.request) for prepared in batch]
        for prepared in batch:
            self._write("end", prepared.request, len(batch))
        return answers

    def _answer(self, parameters: dict[str, Any]) -> Answer:
        order: Order = parameters["order"]
        attempt: int = parameters["attempt"]
        while order.gate and attempt <= order.gated_attempts and not gate_file(self._directory, order.gate).exists():
            time.sleep(_LOOK_SECONDS)
        if order.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if order.hang:
            time.sleep(_HANG_SECONDS)
        if attempt <= order.raise_attempts:
            return ServingError(f"attempt {attempt} was to fail")
        return json.dumps({"attempt": attempt, "filling": "x" * order.answer_bytes}).encode()

    def _write(self, what: str, parameters: dict[str, Any], batch: int) -> None:
        line = Line(what, parameters["job_id"], parameters["attempt"], os.getpid(), batch, time.time())
        descriptor = os.open(lines_file(self._directory), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, json.dumps(line._asdict()).encode() + b"\n")
        finally:
            os.close(descriptor)


def make_work(name: str, model: StoredModel | None, settings: Settings) -> FaultyWork:  # noqa: ARG001 - see open_work
    return FaultyWork(Path(os.environ[DIRECTORY_VARIABLE]), int(os.environ[BATCH_VARIABLE]))
