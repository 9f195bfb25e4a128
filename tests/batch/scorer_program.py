"""Scorers in processes of their own that start at once: a process with everything imported forks them.

A line on standard input is the JSON of `{"url": …, "chunk_rows": …}`, with any field of a Plan; the answer is the line
of the scorer's process id, and when it has ended one with `<process id> <exit status> <summary or error>`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from dataclasses import asdict
from typing import Any

from serving.batch.database import Database
from serving.batch.persistence import Persistent  # noqa: F401 - loads what a scorer needs
from serving.batch.predictor import predictors
from serving.batch.run_limits import Stopper
from serving.batch.scorer import Plan, Scorer
from serving.settings import Settings
from serving.store.models import open_model


class _Quiet:
    def start(self, _total: Any) -> None: ...
    def advance(self, *, succeeded: int, failed: int) -> None: ...
    def trouble(self, message: str) -> None: ...


def _score(order: dict[str, Any]) -> dict[str, Any]:
    database = Database(order.pop("url"), idle_seconds=order["lease_seconds"])
    return asdict(Scorer(database, predictors(Settings()), progress=_Quiet(), stopper=Stopper()).run(Plan(**order)))


def main() -> None:
    open_model("iris:latest")
    # Drivers and dialects are loaded with the first engine.
    for url in ("sqlite:////tmp/none.db", "postgresql://localhost/none", "mysql://localhost/none"):
        Database(url)
    print("ready", flush=True)
    for line in sys.stdin:
        result, written = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            status = 1
            try:
                text = json.dumps(_score(json.loads(line)), default=str)
                status = 0
            except BaseException:  # noqa: BLE001 - told to the test
                text = json.dumps(traceback.format_exc())
            os.write(written, text.encode())
            os._exit(status)
        os.close(written)
        print(pid, flush=True)
        threading.Thread(target=_report, args=(pid, result)).start()


def _report(pid: int, result: int) -> None:
    with os.fdopen(result) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    print(pid, os.waitstatus_to_exitcode(status), text, flush=True)


if __name__ == "__main__":
    main()
