"""Making and migrating the tables with Alembic. The migrations ship in this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from serving.batch.database import Database
from serving.core.errors import ConfigurationError

VERSION_TABLE = "batch_version"
_MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_LOCK = 7_265_103_882
"""Of PostgreSQL's advisory locks, the one that `migrate` takes."""
_LOCK_SECONDS = 60


def migrate(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the tables to `revision`; the revisions before and after. Two may do it at the same time.

    Raises:
        ConfigurationError: another one has been at it for a minute, or the tables are newer than this program.
        sqlalchemy.exc.DBAPIError: the database cannot be used, or its user may not make tables.
    """
    with _alone(database), database.write() as connection:
        if database.kind == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = _current(connection)
        _require_known(before, database)
        command.upgrade(config(connection), revision)
        return before, _current(connection)


def require_tables(database: Database) -> None:
    """Raises ConfigurationError unless the tables are those of this program."""
    with database.read() as connection:
        found = _current(connection)
    wanted = head()
    if found == wanted:
        return
    if found is None:
        raise ConfigurationError(f"{database} has no tables; make them with `serving batch init`")
    _require_known(found, database)
    raise ConfigurationError(f"the tables of {database} are older; migrate them with `serving batch init`")


def _require_known(revision: str | None, database: Database) -> None:
    if revision is not None and revision not in {script.revision for script in _scripts().walk_revisions()}:
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
    name = {"name": f"{VERSION_TABLE}.{database.url.database}"[:64], "seconds": _LOCK_SECONDS}
    with database.engine.connect() as connection:
        if connection.execute(text("SELECT get_lock(:name, :seconds)"), name).scalar() != 1:
            raise ConfigurationError(f"another process has been migrating {database} for {_LOCK_SECONDS} s")
        try:
            yield
        finally:
            connection.execute(text("SELECT release_lock(:name)"), {"name": name["name"]})


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def config(connection: Connection | None = None) -> Config:
    """What Alembic's commands want; they work on `connection`."""
    config = Config()
    # Alembic reads a percent sign as its own.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())
