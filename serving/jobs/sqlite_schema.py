"""The tables of the SQLite store, and connections to a file that has them."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from serving.core.errors import ConfigurationError

VERSION = 1
BUSY_SECONDS = 5.0
_PAUSE_SECONDS = 0.01

# `place` is the order of the queue: it stays with a job through all its attempts. `number` is the order of
# submission, by which jobs are listed. A queued job that waits for its backoff has `due_at`, so that a queue of such
# jobs is not searched by each claim for one that is due. `died`: the last attempt ended with its worker's death.
# Payloads and results are tables of their own, so that the pages of the jobs stay small.
_TABLES = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    status TEXT NOT NULL,
    place INTEGER NOT NULL,
    payload_bytes INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    idempotency_key TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL,
    died INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    leased_until REAL,
    created_at REAL NOT NULL,
    queued_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    due_at REAL,
    started_at REAL,
    finished_at REAL,
    forget_at REAL,
    error TEXT
);
CREATE TABLE payloads (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE results (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE places (last INTEGER NOT NULL);
INSERT INTO places VALUES (0);
CREATE TABLE counts (
    model TEXT NOT NULL,
    status TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (model, status)
) WITHOUT ROWID;

CREATE UNIQUE INDEX by_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX by_place ON jobs (model, place) WHERE status = 'queued';
CREATE INDEX ready ON jobs (model, place) WHERE status = 'queued' AND due_at IS NULL;
CREATE INDEX delayed ON jobs (model, due_at) WHERE status = 'queued' AND due_at IS NOT NULL;
CREATE INDEX expiring ON jobs (expires_at) WHERE status = 'queued';
CREATE INDEX leases ON jobs (leased_until) WHERE status = 'running';
CREATE INDEX owners ON jobs (owner) WHERE status = 'running';
CREATE INDEX forgotten ON jobs (forget_at) WHERE forget_at IS NOT NULL;
CREATE INDEX measured ON jobs (model, finished_at) WHERE status IN ('succeeded', 'failed');
CREATE INDEX by_status ON jobs (status);
CREATE INDEX by_model ON jobs (model);
CREATE INDEX by_model_and_status ON jobs (model, status);

CREATE TRIGGER count_new AFTER INSERT ON jobs BEGIN
    INSERT INTO counts VALUES (new.model, new.status, 1, new.payload_bytes)
    ON CONFLICT DO UPDATE SET jobs = jobs + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER count_change AFTER UPDATE OF status ON jobs WHEN old.status <> new.status BEGIN
    UPDATE counts SET jobs = jobs - 1, bytes = bytes - old.payload_bytes
    WHERE model = old.model AND status = old.status;
    INSERT INTO counts VALUES (new.model, new.status, 1, new.payload_bytes)
    ON CONFLICT DO UPDATE SET jobs = jobs + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER count_gone AFTER DELETE ON jobs BEGIN
    UPDATE counts SET jobs = jobs - 1, bytes = bytes - old.payload_bytes
    WHERE model = old.model AND status = old.status;
    DELETE FROM payloads WHERE number = old.number;
    DELETE FROM results WHERE number = old.number;
END;
"""


def connect(file: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, whose commits survive a loss of power. Makes a new file and its tables.

    Two processes may open the same new file at once. It belongs to its user alone, as it holds what callers sent.

    Raises:
        ConfigurationError: the directory does not exist, or the tables are those of another version.
        sqlite3.Error: the file cannot be opened, read or written now.
    """
    if not file.parent.is_dir():
        raise ConfigurationError(f"jobs.url: there is no directory {file.parent}")
    # Only a new file is touched: to close one that SQLite has open in this process would end its locks.
    with suppress(FileExistsError, PermissionError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _connect(file)
        except sqlite3.OperationalError as error:
            # While another process turns a new file to WAL, SQLite does not wait but says that it is locked.
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        if _version(connection) != VERSION:
            connection.execute("BEGIN IMMEDIATE")
            _make_tables(connection)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _make_tables(connection: sqlite3.Connection) -> None:
    version = _version(connection)  # again: another process may have been quicker
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        for statement in _statements(_TABLES):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise ConfigurationError(
            f"jobs.url: the file has tables of version {version}, and version {VERSION} is needed; name another file"
        )


def _statements(script: str) -> list[str]:
    """`executescript` would commit what has begun before it."""
    found: list[str] = []
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            found.append(text)
            text = ""
    return found


def _primary_code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


# What the disk or other processes are the cause of, and what may be over in a moment.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}


def is_outage(error: sqlite3.Error) -> bool:
    """Whether the file cannot be used at the moment; anything else is a mistake in this program."""
    return _primary_code(error) in _PASSING


def is_crowded(error: sqlite3.Error) -> bool:
    """Whether the cause is only the lock of another process or a full disk, so that the connection can be kept."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
