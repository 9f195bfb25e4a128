"""The maintenance of a store goes on whatever happens."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from serving.core.errors import UnavailableError
from serving.jobs.job import ModelStats
from serving.jobs.maintenance import Maintenance

AWAY = UnavailableError("the job store cannot be reached", retry_after=1)


class Store:
    """Stands for a store: `maintain` does what the test has planned, then nothing more."""

    def __init__(self, *plan: Exception | None, opens: Exception | None = None) -> None:
        self._plan = list(plan)
        self._opens = opens
        self.calls = 0
        self.done = asyncio.Event()
        self.closed = False

    async def open(self) -> None:
        if self._opens:
            raise self._opens

    async def close(self) -> None:
        self.closed = True

    async def stats(self) -> dict[str, ModelStats]:
        return {"iris": ModelStats()}

    async def maintain(self) -> None:
        self.calls += 1
        if not self._plan:
            self.done.set()
            return
        error = self._plan.pop(0)
        if error is not None:
            raise error


def run(store: Any, **more: Any) -> None:
    async def scenario() -> None:
        maintenance = Maintenance(store, pause_seconds=0.001, **more)
        await maintenance.start()
        async with asyncio.timeout(60):
            await store.done.wait()
        await maintenance.stop()
        calls = store.calls
        await asyncio.sleep(0.01)
        assert store.calls == calls, "nothing is done after the stop"

    asyncio.run(scenario())
    assert store.closed


def test_one_line_for_the_beginning_of_an_outage_and_one_for_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serving.jobs"):
        run(Store(None, AWAY, AWAY, AWAY, None, None))
    assert [record.getMessage() for record in caplog.records if record.name == "serving.jobs"] == [
        "the job store cannot be reached: the job store cannot be reached",
        "the job store can be reached again",
    ]


def test_a_store_that_is_away_at_the_start_is_taken_up_later(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serving.jobs"):
        run(Store(AWAY, AWAY, opens=AWAY))
    assert len(caplog.records) == 2


def test_an_error_that_nobody_expected_is_logged_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    run(Store(ValueError("broken"), None))
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "the maintenance of the job store failed"


def test_what_the_store_keeps_is_told() -> None:
    told: list[dict[str, ModelStats]] = []
    run(Store(), tell=told.append)
    assert told[0] == {"iris": ModelStats()}
