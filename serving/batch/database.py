"""The database of the batch pattern: opened by URL, with what differs between SQLite, MariaDB/MySQL and PostgreSQL."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from serving.batch.database_errors import is_read_only
from serving.batch.database_url import driver_url, mysql_arguments, read_url, shown
from serving.core.errors import ConfigurationError

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 600
BUSY_SECONDS = 30.0
"""How long a writer of SQLite waits for another one."""
_WRITES = "batch_writes"
# Whatever the server's defaults are: a value that is too long is an error, and tables have transactions.
_MYSQL_SESSION = """
SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', default_storage_engine = InnoDB
"""


class Database:
    """A database by its URL; nothing is connected yet.

    `read` and `write` give a connection in a transaction, which is committed at the end of the block and rolled back
    when it raises. What they raise of `sqlalchemy.exc.DBAPIError` may be judged with `serving.batch.database_errors`.

    Args:
        schema: of the tables in PostgreSQL, where it is not the first one on the user's search path.
        connections: at most so many at a time.
        idle_seconds: the server rolls back and closes a connection that is idle for this long by its own clock, also in
            the middle of a transaction. SQLite has no server that could.

    Raises:
        ConfigurationError: the URL cannot be used, or a file that it names; the message does not have its password.
    """

    def __init__(self, url: str, *, schema: str = "", connections: int = 2, idle_seconds: float | None = None) -> None:
        self.url, self.kind = read_url(url)
        self.schema = schema
        if schema and self.kind != "postgresql":
            raise ConfigurationError(
                "batch.database_schema is for PostgreSQL; name another database in the URL instead"
            )
        if self.kind == "sqlite":
            self.engine = _sqlite(self.url)
        elif self.kind == "mysql":
            self.engine = _mysql(self.url, connections, idle_seconds)
        else:
            self.engine = _postgresql(self.url, connections, schema, idle_seconds)

    def __str__(self) -> str:
        return shown(self.url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads; in SQLite it does not wait for a writer."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection that writes; in SQLite the only one at a time, from the beginning on."""
        with self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def _postgresql(url: URL, connections: int, schema: str, idle_seconds: float | None) -> Engine:
    # A server whose machine has gone does not say so.
    defaults = {"connect_timeout": _CONNECT_SECONDS, "keepalives_idle": 15, "keepalives_interval": 5}
    defaults |= {"keepalives_count": 3}
    arguments: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
    # A pool in front of the server, such as PgBouncer, gives the next transaction to another connection of the server.
    # So nothing may outlive a transaction: no prepared statement, and no setting either.
    engine = _server(driver_url(url, "postgresql"), connections, arguments | {"prepare_threshold": None})
    settings = {}
    if schema:
        settings["search_path"] = '"' + schema.replace('"', '""') + '"'
    if idle_seconds is not None:
        settings["idle_in_transaction_session_timeout"] = str(math.ceil(idle_seconds * 1000))
    if settings:
        statement = f"SELECT {', '.join('set_config(%s, %s, true)' for _ in settings)}"
        values = tuple(part for setting in settings.items() for part in setting)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(statement, values)

    return engine


def _mysql(url: URL, connections: int, idle_seconds: float | None) -> Engine:
    session = _MYSQL_SESSION
    if idle_seconds is not None:
        session += f", wait_timeout = {math.ceil(idle_seconds)}"
    arguments = {"connect_timeout": _CONNECT_SECONDS, "charset": "utf8mb4", "read_timeout": _ANSWER_SECONDS}
    engine = _server(driver_url(url, "mysql"), connections, arguments | {"init_command": session})

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _entry: ConnectionPoolEntry, _values: Any, arguments: dict[str, Any]) -> None:
        # Each time, since files of certificates are replaced while the program runs.
        arguments.update(mysql_arguments(url))

    return engine


def _server(url: URL, connections: int, arguments: dict[str, Any]) -> Engine:
    # pre_ping: a server that was restarted meanwhile costs a new connection and not an error. READ COMMITTED: the
    # default of MySQL locks the gaps between claimed rows too.
    engine = create_engine(
        url,
        connect_args=arguments,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
    )

    @event.listens_for(engine, "handle_error")
    def _judge(context: ExceptionContext) -> None:
        # After a failover the old connections lead to a server that takes no writes any more.
        if is_read_only(context.original_exception):
            context.is_disconnect = True

    return engine


def _sqlite(url: URL) -> Engine:
    file = Path(url.database or "")
    if not file.parent.is_dir():
        raise ConfigurationError(f"batch.database_url: there is no directory {file.parent}")
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def _create(*_: Any) -> None:
        # A new file belongs to its user alone. Only a new one is touched: to close one that SQLite has open in this
        # process would end its locks. SQLite itself says what is wrong.
        with suppress(OSError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        # Transactions begin where this program says so, and not where the driver guesses.
        connection.isolation_level = None
        # WAL: readers and the writer do not wait for each other. FULL: what is committed survives a loss of power.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader that became a writer half-way would fail, not wait, when another one was quicker.
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
