"""Migrations against the models, on every database: from nothing, from older tables, and from half of either."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, inspect, text

from serving.batch.database import Database
from serving.batch.migrate import head, migrate, require_tables
from serving.batch.migrations.schema_compare import same_type
from serving.batch.tables import ITEMS, RUNS, VERSION, Base, Item
from serving.core.errors import ConfigurationError
from tests.batch import version_0001
from tests.batch.rows import fill, rows, score


def check(database: Database) -> None:
    """That the tables are those of the models, whatever else is there."""
    names = Base.metadata.tables

    def ours(found: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
        return (name if kind == "table" else found.table.name) in names

    with database.read() as connection:
        options = {"version_table": VERSION, "compare_type": same_type, "include_object": ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    require_tables(database)


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names())


def test_migrations_make_the_tables_that_the_models_say(empty_database: Database) -> None:
    assert migrate(empty_database) == (None, head())
    check(empty_database)
    assert tables(empty_database) == {ITEMS, RUNS, VERSION}


def test_migrating_again_changes_nothing(empty_database: Database) -> None:
    migrate(empty_database)
    assert migrate(empty_database) == (head(), head())


def test_several_may_migrate_at_once(empty_database: Database) -> None:
    others = [Database(empty_database.url.render_as_string(hide_password=False)) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(migrate, others))
    assert sorted(found, key=str) == sorted([(None, head()), (head(), head()), (head(), head())], key=str)
    for other in others:
        other.close()


def test_older_tables_get_their_prefix_and_keep_their_rows(empty_database: Database) -> None:
    with empty_database.write() as connection:
        version_0001.make(connection, rows=3)
    with pytest.raises(ConfigurationError, match="are older; migrate them with `serving batch init`"):
        require_tables(empty_database)
    assert migrate(empty_database) == ("0001", head())
    check(empty_database)
    fill(empty_database, 1)
    assert score(empty_database).succeeded == 4
    assert rows(empty_database, Item.id, Item.values) == [(1, [0]), (2, [1]), (3, [2]), (4, [0])]
    # A program of version 0001 reads it and says that the tables are newer; it would make new ones otherwise.
    assert tables(empty_database) == {ITEMS, RUNS, VERSION, "batch_version"}
    with empty_database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM batch_version")).scalars().all() == [head()]
    assert migrate(empty_database) == (head(), head())


def test_tables_of_other_programs_stay_as_they_are(empty_database: Database) -> None:
    """Also those that MariaDB was left with by a version that stopped at them half-way."""
    with empty_database.write() as connection:
        connection.execute(text("CREATE TABLE items (id INTEGER PRIMARY KEY, price INTEGER)"))
        connection.execute(text("CREATE TABLE runs (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE batch_version (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO items VALUES (1, 2)"))
    assert migrate(empty_database) == (None, head())
    check(empty_database)
    with empty_database.read() as connection:
        assert connection.execute(text("SELECT id, price FROM items")).all() == [(1, 2)]


@pytest.mark.parametrize("table", [ITEMS, RUNS, VERSION])
def test_a_table_of_another_program_with_the_same_name_is_named(empty_database: Database, table: str) -> None:
    with empty_database.write() as connection:
        connection.execute(text(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)"))
    with pytest.raises(ConfigurationError, match=f"the table {table} is another program's, without the column"):
        migrate(empty_database)
    with empty_database.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO mine"))
    assert migrate(empty_database) == (None, head()), "and once it is out of the way nothing is left of the first try"
    check(empty_database)


@pytest.mark.parametrize("old", [False, True], ids=["new", "older"])
def test_what_was_cut_off_is_finished_by_the_next(make_database: Callable[[str], str], old: bool) -> None:
    """After each of the statements. Only MariaDB and MySQL keep what the first of them have changed."""
    for done in count():
        database = Database(make_database("mariadb"))
        if old:
            with database.write() as connection:
                version_0001.make(connection, rows=2)
        left = [done]

        @event.listens_for(database.engine, "before_cursor_execute")
        def cut(_c: Any, _cursor: Any, statement: str, *_: Any, left: list[int] = left) -> None:
            if statement.split(maxsplit=1)[0] in ("CREATE", "ALTER", "UPDATE", "INSERT"):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1

        try:
            migrate(database)
        except KeyboardInterrupt:
            event.remove(database.engine, "before_cursor_execute", cut)
            migrate(database)
            check(database)
            assert len(rows(database, Item.id)) == (2 if old else 0)
            database.close()
        else:
            database.close()
            break
    assert done > 5


def test_without_tables_the_command_is_named(empty_database: Database) -> None:
    with pytest.raises(ConfigurationError, match="serving batch init"):
        require_tables(empty_database)


def test_tables_of_a_newer_version_are_left_alone(empty_database: Database) -> None:
    migrate(empty_database)
    with empty_database.write() as connection:
        connection.execute(text("UPDATE serving_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer"):
        require_tables(empty_database)
    with pytest.raises(ConfigurationError, match="newer"):
        migrate(empty_database)
