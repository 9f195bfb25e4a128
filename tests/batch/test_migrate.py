"""Migrations against the models, on every database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from serving.batch.database import Database
from serving.batch.migrate import head, migrate, require_tables
from serving.batch.migrations.schema_compare import same_type
from serving.batch.tables import VERSION, Base
from serving.core.errors import ConfigurationError


def test_migrations_make_the_tables_that_the_models_say(empty_database: Database) -> None:
    assert migrate(empty_database) == (None, head())
    with empty_database.read() as connection:
        options = {"version_table": VERSION, "compare_type": same_type}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    require_tables(empty_database)


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
