"""Scorers and databases that are killed at random points: every row is scored once, as `/iris/predict` does."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from serving.batch.database import Database
from serving.batch.loading import insert_rows
from serving.batch.migrate import migrate
from serving.batch.state import items_by_model, latest_runs
from serving.batch.tables import Item
from tests.batch.scorers import Scorers
from tests.databases import PrivateServer, new_database, private_server
from tests.server import Server

KILLS = int(os.environ.get("SERVING_TEST_BATCH_KILLS", "51"))
"""Over the three kinds of database together."""
CHUNK_ROWS = 20
ROUND_ROWS = 1500
DISTINCT = 1000
TOLD_SECONDS = 0.25
"""A scorer is killed within so long of its start."""
WAIT_SECONDS = 60.0

_generator = random.Random(7)
MEASUREMENTS = [[round(_generator.uniform(0.1, 8.0), 1) for _ in range(4)] for _ in range(DISTINCT)]


@pytest.fixture(scope="module")
def answers(server: Server) -> dict[str, list[float]]:
    """What the running service answers for each of the rows."""
    answer = httpx.post(f"{server.url}/iris/predict", json={"data": MEASUREMENTS}, timeout=60)
    predictions = answer.raise_for_status().json()["prediction"]
    return {json.dumps(row): prediction for row, prediction in zip(MEASUREMENTS, predictions, strict=True)}


def fill(database: Database, count: int) -> None:
    values = [("iris", json.dumps(MEASUREMENTS[number % DISTINCT])) for number in range(count)]
    with database.write() as connection:
        insert_rows(connection, database.kind, values)


def check(database: Database, answers: dict[str, list[float]]) -> int:
    """That every row has been scored once, and as the service answers; how many there are."""
    columns = (Item.status, Item.attempts, Item.values, Item.prediction, Item.error)
    with database.read() as connection:
        found = connection.execute(select(*columns)).all()
    assert {(row.status, row.attempts, row.error) for row in found} == {("predicted", 1, None)}
    wrong = [row for row in found if row[3] != answers[json.dumps(row[2])]]
    assert wrong == []
    runs = latest_runs(database, 1000)
    assert sum(run["succeeded"] for run in runs) == len(found), "each row is counted in one run"
    return len(found)


def predicted(database: Database) -> int:
    return items_by_model(database).get("iris", {}).get("predicted", 0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_scorers_that_are_killed_at_random_points_lose_and_repeat_nothing(
    database: Database, scorers: Scorers, answers: dict[str, list[float]], record_property: Callable[[str, Any], None]
) -> None:
    seed = int(os.environ.get("SERVING_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    record_property("seed", seed)
    print(f"SERVING_TEST_SEED={seed}")
    chance = random.Random(seed)
    url = database.url.render_as_string(hide_password=False)
    total = killed = 0
    while killed < -(-KILLS // 3):
        if items_by_model(database).get("iris", {}).get("unpredicted", 0) < ROUND_ROWS // 2:
            fill(database, ROUND_ROWS)
            total += ROUND_ROWS
        # One alone, or two at a time, of which one goes on while the other dies.
        pids = [scorers.start(url, chunk_rows=CHUNK_ROWS) for _ in range(chance.choice((1, 2)))]
        for pid in pids:
            time.sleep(chance.uniform(0, TOLD_SECONDS / len(pids)))
            ended = scorers.kill(pid)
            assert ended.status in (0, -signal.SIGKILL), ended.answer
            killed += ended.status == -signal.SIGKILL
    before = predicted(database)
    summary = scorers.run(url, chunk_rows=CHUNK_ROWS)
    assert (summary["outcome"], summary["remaining"]) == ("done", 0)
    assert summary["succeeded"] == total - before
    assert check(database, answers) == total


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_a_scorer_that_stood_still_does_not_write_what_another_has_taken_over(
    clean_url: Callable[[str], str], kind: str, scorers: Scorers, answers: dict[str, list[float]]
) -> None:
    """SIGSTOP for longer than the lease, as a virtual machine that is moved.

    Not for SQLite: who is stopped while it writes keeps the lock of the file, from everybody.
    """
    database = Database(clean_url(kind))
    fill(database, 4000)
    url = database.url.render_as_string(hide_password=False)
    frozen = scorers.start(url, chunk_rows=CHUNK_ROWS)
    wait_for(lambda: predicted(database) > 0)
    os.kill(frozen, signal.SIGSTOP)
    try:
        summary = scorers.run(url, chunk_rows=CHUNK_ROWS)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert summary["remaining"] == 0
    assert scorers.end(frozen).status == 0
    assert check(database, answers) == 4000
    database.close()


@pytest.fixture(params=["mariadb", "postgres"])
def mortal_server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A database server that may be killed."""
    with private_server(request.param) as server:
        yield server


def test_a_database_that_dies_in_the_middle_of_a_run(
    mortal_server: PrivateServer, scorers: Scorers, answers: dict[str, list[float]]
) -> None:
    """The run goes on when it is back; one that may not wait for so long says so, and the next goes on from there."""
    url = new_database(mortal_server)
    database = Database(url)
    migrate(database)
    fill(database, 1200)
    # While one row is held neither run comes to its end.
    held = database.engine.connect()
    held.execute(select(Item.id).order_by(Item.id.desc()).limit(1).with_for_update())
    patient = scorers.start(url, chunk_rows=CHUNK_ROWS, lease_seconds=WAIT_SECONDS)
    hasty = scorers.start(url, chunk_rows=CHUNK_ROWS, lease_seconds=WAIT_SECONDS, retry_seconds=0.0)
    wait_for(lambda: predicted(database) > 100 and len(latest_runs(database, 5)) == 2)
    mortal_server.kill()
    held.invalidate()
    held.close()
    ended = scorers.end(hasty)
    assert ended.status == 1
    assert "DatabaseAwayError" in ended.answer
    mortal_server.start()
    ended = scorers.end(patient)
    assert ended.status == 0, ended.answer
    assert (ended.answer["outcome"], ended.answer["remaining"]) == ("done", 0)
    assert check(database, answers) == 1200
    outcomes = {run["outcome"] for run in latest_runs(database, 5)}
    assert outcomes == {"done", None}, "who could not reach the database could not say that it has ended"
    database.close()


def test_a_sqlite_file_that_is_locked_for_long_is_waited_for(
    sqlite_database: Database, scorers: Scorers, answers: dict[str, list[float]]
) -> None:
    fill(sqlite_database, 100)
    url = sqlite_database.url.render_as_string(hide_password=False)
    with sqlite_database.write():
        pid = scorers.start(url, chunk_rows=CHUNK_ROWS)
        time.sleep(0.3)
    assert scorers.end(pid).status == 0
    assert check(sqlite_database, answers) == 100
    assert not Path(f"{sqlite_database.url.database}-journal").exists()
