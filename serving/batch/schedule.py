"""`serving batch score --every`: runs at a fixed interval, for machines without a scheduler."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event
from types import FrameType
from typing import Any

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger


def run_every(
    seconds: float, run: Callable[[], object], *, stop: Callable[[], object], skipped: Callable[[], object]
) -> None:
    """Call `run` now and every `seconds` until SIGTERM or Ctrl-C; then call `stop` and wait for the end of the run.

    When a run still goes on when the next one is due, the next one is skipped and `skipped` is called. Exceptions from
    `run` are logged and do not end the schedule.
    """
    ending = Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if ending.is_set():
            raise KeyboardInterrupt
        ending.set()
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    # It warns of runs that are skipped, which the caller does too.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler: Any = BackgroundScheduler(timezone="UTC")
    scheduler.add_listener(lambda _event: skipped(), EVENT_JOB_MAX_INSTANCES)
    # Several runs that are overdue, after the machine slept, become one.
    scheduler.add_job(
        run,
        IntervalTrigger(seconds=seconds, timezone="UTC"),
        next_run_time=datetime.now(UTC),
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
    )
    try:
        scheduler.start()
        ending.wait()
        scheduler.shutdown(wait=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
