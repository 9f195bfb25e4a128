"""Scorers behind PgBouncer, which gives each transaction any connection of its pool."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from serving.batch.database import Database
from serving.batch.database_errors import cause, is_outage
from serving.batch.items import add_items
from serving.batch.loading import insert_rows
from serving.batch.migrate import migrate, require_tables
from serving.batch.state import items_by_model, latest_runs
from serving.batch.tables import Item
from serving.core.errors import ConfigurationError
from tests.batch.rows import Silent, Sums, fill, rows, score
from tests.batch.scorers import Scorers
from tests.databases import Server, new_database
from tests.pgbouncer import POOL, PrivatePgBouncer, pgbouncer

KILLED = 8
CHUNK_ROWS = 20
ROWS = 2000
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def pool(postgres_server: Server) -> Iterator[PrivatePgBouncer]:
    with pgbouncer(postgres_server) as started:
        yield started


@pytest.fixture
def url(pool: PrivatePgBouncer, postgres_server: Server) -> str:
    return pool.through(new_database(postgres_server))


def leftovers(url: str) -> list[Any]:
    """What the connections of the pool have kept of their transactions, each asked while all are held."""
    driver = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    found = []
    with ExitStack() as stack:
        for _ in range(POOL):
            connection = stack.enter_context(psycopg.connect(driver, prepare_threshold=None))
            found.append(
                connection.execute("""
                    SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements),
                        (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
                        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_cursors),
                        (SELECT count(*) FROM pg_listening_channels()),
                        (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name <> 'application_name')
                """).fetchone()
            )
    assert len({each[0] for each in found if each}) == POOL, "one connection answered twice"
    return [each[1:] for each in found if each]


def test_four_scorers_that_are_killed_score_every_row_once(url: str, scorers: Scorers) -> None:
    database = Database(url, schema="public")
    migrate(database)
    generator = random.Random(3)
    values = [[round(generator.uniform(0.1, 8.0), 1) for _ in range(4)] for _ in range(ROWS)]
    with database.write() as connection:
        insert_rows(connection, "postgresql", [("iris", json.dumps(row)) for row in values])
    pids = [scorers.start(url, chunk_rows=CHUNK_ROWS) for _ in range(4)]
    for _ in range(KILLED):
        time.sleep(generator.uniform(0.0, 0.2))
        ended = scorers.kill(pids.pop(0))
        assert ended.status in (0, -9), ended.answer
        pids.append(scorers.start(url, chunk_rows=CHUNK_ROWS))
    for pid in pids:
        ended = scorers.end(pid)
        assert ended.status == 0, ended.answer
    assert rows(database, Item.status, Item.attempts) == [("predicted", 1)] * ROWS
    assert sum(run["succeeded"] for run in latest_runs(database, 100)) == ROWS
    add_items(database, [("iris", [1.0] * 4)] * 3)
    database.close()
    assert leftovers(url) == [(0, 0, 0, 0, 0, 0)] * POOL


def test_a_schema_of_its_own(url: str) -> None:
    """A pool does not pass a search path on, and gives the connection to other programs afterwards."""
    database, public = Database(url, schema='Rows "1"', idle_seconds=30), Database(url)
    with pytest.raises(ConfigurationError, match='there is no schema Rows "1"'):
        migrate(database)
    with public.write() as connection:
        connection.execute(text('CREATE SCHEMA "Rows ""1"""'))
    assert migrate(database)[0] is None
    fill(database, 50)
    assert score(database).succeeded == 50
    with pytest.raises(ConfigurationError, match="serving batch init"):
        require_tables(public)
    assert leftovers(url) == [(0, 0, 0, 0, 0, 0)] * POOL
    database.close()
    public.close()


def test_a_run_goes_on_when_the_pool_is_restarted(postgres_server: Server) -> None:
    with pgbouncer(postgres_server) as pool:
        database = Database(pool.through(new_database(postgres_server)))
        migrate(database)
        fill(database, 30)
        restarts = iter([True])

        def restart() -> None:
            if next(restarts, False):
                pool.kill()
                pool.start()

        progress = Silent()
        assert score(database, models={"sums": Sums(restart)}, progress=progress).succeeded == 30
        assert any("away" in trouble for trouble in progress.troubles)
        assert items_by_model(database)["sums"]["predicted"] == 30
        database.close()


def test_what_a_pool_cannot_do_is_said_at_once(url: str, postgres_server: Server) -> None:
    with pgbouncer(postgres_server, mode="statement") as pool:
        database = Database(pool.through(url))
        with pytest.raises(Exception, match="transaction blocks not allowed") as caught:
            migrate(database)
        assert cause(caught.value).startswith("PgBouncer is in statement mode, without transactions: let it have")
        assert not is_outage(caught.value), "waiting does not help"
        database.close()
    database = Database(f"{url}?options=-csearch_path%3Drows")
    with pytest.raises(Exception, match="unsupported startup parameter") as caught:
        migrate(database)
    assert "batch.database_schema" in cause(caught.value)
    assert not is_outage(caught.value)
