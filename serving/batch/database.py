"""The database of the batch pattern: opened by URL, with what differs between SQLite, MariaDB/MySQL and PostgreSQL."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from serving.core.errors import ConfigurationError

Kind = Literal["sqlite", "mysql", "postgresql"]
_DRIVERS: dict[str, tuple[Kind, str]] = {
    "sqlite": ("sqlite", "sqlite"),
    "mysql": ("mysql", "mysql+pymysql"),
    "mariadb": ("mysql", "mysql+pymysql"),
    "postgres": ("postgresql", "postgresql+psycopg"),
    "postgresql": ("postgresql", "postgresql+psycopg"),
}
_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 600
BUSY_SECONDS = 30.0
"""How long a writer of SQLite waits for another one."""
_WRITES = "batch_writes"


class Database:
    """A database by its URL; nothing is connected yet.

    `read` and `write` give a connection in a transaction, which is committed at the end of the block and rolled back
    when it raises. What they raise of `sqlalchemy.exc.DBAPIError` may be judged with `is_outage` and `is_conflict`.

    Args:
        connections: at most so many at a time.
        idle_seconds: the server rolls back and closes a connection that is idle for this long by its own clock, also in
            the middle of a transaction. SQLite has no server that could.

    Raises:
        ConfigurationError: the URL cannot be used; the message does not have its password.
    """

    def __init__(self, url: str, *, connections: int = 2, idle_seconds: float | None = None) -> None:
        self.url, self.kind = _read(url)
        self.engine = _engine(self.url, self.kind, connections)
        if idle_seconds is not None and self.kind != "sqlite":
            _limit_idleness(self.engine, self.kind, idle_seconds)

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

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


def _read(url: str) -> tuple[URL, Kind]:
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        # Not from the error: its text has the URL, and that may have a password.
        raise ConfigurationError("batch.database_url: not a URL of a database") from None
    name, _, driver = read.drivername.partition("+")
    if name not in _DRIVERS or driver not in ("", _DRIVERS[name][1].partition("+")[2]):
        raise ConfigurationError(
            f"batch.database_url: {read.drivername}:// is not known; use sqlite:///, postgresql:// or mysql://"
        )
    kind, drivername = _DRIVERS[name]
    if kind == "sqlite" and (not read.database or read.database == ":memory:" or "mode" in read.query):
        raise ConfigurationError("batch.database_url: sqlite:/// needs the name of a file")
    if kind != "sqlite" and not read.database:
        raise ConfigurationError("batch.database_url: the name of the database is missing")
    return read.set(drivername=drivername), kind


def _engine(url: URL, kind: Kind, connections: int) -> Engine:
    if kind == "sqlite":
        return _sqlite(url)
    arguments: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
    if kind == "mysql":
        arguments |= {"charset": "utf8mb4", "init_command": "SET time_zone = '+00:00'", "read_timeout": _ANSWER_SECONDS}
    else:
        # A server whose machine has gone does not say so.
        arguments |= {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
    # pre_ping: a server that was restarted meanwhile costs a new connection and not an error. READ COMMITTED: the
    # default of MySQL locks the gaps between claimed rows too.
    return create_engine(
        url,
        connect_args=arguments,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
    )


def _limit_idleness(engine: Engine, kind: Kind, seconds: float) -> None:
    statement = (
        f"SET idle_in_transaction_session_timeout = {math.ceil(seconds * 1000)}"
        if kind == "postgresql"
        else f"SET SESSION wait_timeout = {math.ceil(seconds)}"
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.commit()


def _sqlite(url: URL) -> Engine:
    file = Path(url.database or "")
    if not file.parent.is_dir():
        raise ConfigurationError(f"batch.database_url: there is no directory {file.parent}")
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def _create(*_: Any) -> None:
        # A new file belongs to its user alone. Only a new one is touched: to close one that SQLite has open in this
        # process would end its locks.
        with suppress(FileExistsError, PermissionError):
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


_PG_OUTAGES = ("08", "53", "57P", "25P03", "58")
_PG_CONFLICTS = ("40001", "40P01", "55P03")
# Lock wait timeout, deadlock, row changed since it was read, record locked elsewhere.
_MYSQL_CONFLICTS = (1205, 1213, 1020, 3572)
# Too many connections, server shutdown, disk full, server gone, connection lost or killed, cannot connect, timeouts.
_MYSQL_OUTAGES = (1040, 1053, 1021, 1203, 1927, 1969, 2002, 2003, 2006, 2013, 2055, 4031)
_SQLITE_CONFLICTS = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_OUTAGES = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL")


def is_conflict(error: DBAPIError) -> bool:
    """Whether only another transaction was in the way: the same again may work at once."""
    cause = error.orig
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return state in _PG_CONFLICTS
    if (name := getattr(cause, "sqlite_errorname", None)) is not None:
        return name.startswith(_SQLITE_CONFLICTS)
    return _mysql_code(error) in _MYSQL_CONFLICTS


def is_outage(error: DBAPIError) -> bool:
    """Whether the database is away, or has dropped the connection: the same again may work later."""
    cause = error.orig
    if error.connection_invalidated:
        return True
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return state.startswith(_PG_OUTAGES)
    if (name := getattr(cause, "sqlite_errorname", None)) is not None:
        return name.startswith(_SQLITE_OUTAGES)
    if (code := _mysql_code(error)) is not None:
        return code in _MYSQL_OUTAGES
    # psycopg has no code for what the server did not say: it could not be reached, or closed the connection.
    return isinstance(error, OperationalError | InterfaceError)


def _mysql_code(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
