"""Making and migrating the tables with Alembic. The migrations ship in this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Inspector, inspect, text

from serving.batch.database import Database
from serving.batch.migrations import unprefixed
from serving.batch.tables import VERSION, Base
from serving.core.errors import ConfigurationError

_MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_LOCK = 7_265_103_882
"""Of PostgreSQL's advisory locks, the one that `migrate` takes."""
_LOCK_SECONDS = 60


def migrate(database: Database) -> tuple[str | None, str | None]:
    """Bring the tables to the newest revision; the revisions before and after. Two may do it at the same time.

    What was killed half-way is finished by the next one.

    Raises:
        ConfigurationError: another one has been at it for a minute, the tables are newer than this program or another
            program's, or PostgreSQL's user may not make tables.
        sqlalchemy.exc.DBAPIError: the database cannot be used, or its user may not make tables.
    """
    with _alone(database), database.write() as connection:
        if database.kind == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = _current(connection, database)
        _require_known(before, database)
        if before != head():
            _require_schema(connection, database)
            _require_right_to_create(connection, database)
            _require_ours(connection, database)
            command.upgrade(_config(connection), "head")
        return before, head()


def require_tables(database: Database) -> None:
    """Raises ConfigurationError unless the tables are those of this program."""
    with database.read() as connection:
        found = _current(connection, database)
        if found is None:
            _require_schema(connection, database)
    wanted = head()
    if found == wanted:
        return
    if found is None:
        place = f", schema {database.schema}" if database.schema else ""
        raise ConfigurationError(f"{database}{place}: there are no tables; make them with `serving batch init`")
    _require_known(found, database)
    raise ConfigurationError(f"the tables of {database} are older; migrate them with `serving batch init`")


def _require_known(revision: str | None, database: Database) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision not in known | {None, unprefixed.VERSION}:
        raise ConfigurationError(f"the tables of {database} are newer ({revision}) than this program ({head()})")


def head() -> str | None:
    """The newest revision."""
    return _scripts().get_current_head()


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """The others wait: in MySQL, where a change of a table commits by itself, for a lock beside the transaction."""
    if database.kind != "mysql":
        yield
        return
    name = {"name": f"{VERSION}.{database.url.database}"[:64], "seconds": _LOCK_SECONDS}
    with database.engine.connect() as connection:
        if connection.execute(text("SELECT get_lock(:name, :seconds)"), name).scalar() != 1:
            raise ConfigurationError(f"another process has been migrating {database} for {_LOCK_SECONDS} s")
        try:
            yield
        finally:
            connection.execute(text("SELECT release_lock(:name)"), {"name": name["name"]})


def _current(connection: Connection, database: Database) -> str | None:
    inspector = inspect(connection)
    if inspector.has_table(VERSION):
        _require_columns(inspector, database, VERSION, {"version_num"})
    context = MigrationContext.configure(connection, opts={"version_table": VERSION})
    return context.get_current_revision() or unprefixed.version(connection)


def _require_schema(connection: Connection, database: Database) -> None:
    """Raises ConfigurationError where PostgreSQL has no schema for the tables."""
    if database.kind != "postgresql":
        return
    user, schema = connection.execute(text("SELECT current_user, current_schema()")).one()
    if schema is None:
        wanted = database.schema or "on the search path"
        raise ConfigurationError(f"{database}: there is no schema {wanted}, or the user {user} may not use it")


def _require_right_to_create(connection: Connection, database: Database) -> None:
    """Raises ConfigurationError where PostgreSQL's user may not make tables; the others say so themselves."""
    if database.kind != "postgresql":
        return
    columns = "current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE')"
    user, schema, may = connection.execute(text(f"SELECT {columns}")).one()
    if not may:
        raise ConfigurationError(
            f"{database}: the user {user} may not make tables in the schema {schema}; run `serving batch init` as "
            f"one who may, grant CREATE ON SCHEMA {schema}, or name another schema in batch.database_schema"
        )


def _require_ours(connection: Connection, database: Database) -> None:
    """Raises ConfigurationError where another program has tables of the same names."""
    inspector = inspect(connection)
    for table in Base.metadata.sorted_tables:
        if inspector.has_table(table.name):
            _require_columns(inspector, database, table.name, set(table.columns.keys()))


def _require_columns(inspector: Inspector, database: Database, table: str, wanted: set[str]) -> None:
    missing = wanted - {column["name"] for column in inspector.get_columns(table)}
    if missing:
        raise ConfigurationError(
            f"{database}: the table {table} is another program's, without the column {min(missing)}; rename it, or "
            "give the rows another database (in PostgreSQL another schema, batch.database_schema)"
        )


def _config(connection: Connection | None = None) -> Config:
    """What Alembic's commands want; they work on `connection`."""
    config = Config()
    # Alembic reads a percent sign as its own.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
