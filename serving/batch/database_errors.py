"""What an error of a database means: whether to try again, and what to tell the operator."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

# Idle for too long in a transaction, or in one that took too long, and what is shut down, full or cannot be reached.
_PG_OUTAGES = ("08", "53", "57P", "25P03", "25P04", "58")
_PG_CONFLICTS = ("40001", "40P01", "55P03")
# Lock wait timeout, deadlock, row changed since it was read, record locked elsewhere.
_MYSQL_CONFLICTS = (1205, 1213, 1020, 3572)
# Too many connections, server shutdown, disk full, not in its cluster yet, server gone, connection lost or killed,
# cannot connect, timeouts.
_MYSQL_OUTAGES = (1040, 1053, 1021, 1047, 1203, 1927, 1969, 2002, 2003, 2006, 2013, 2055, 4031)
_SQLITE_CONFLICTS = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_OUTAGES = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL")
# A server that was the first one before a failover, or that an administrator has closed for writing.
_PG_READ_ONLY = "25006"
_MYSQL_READ_ONLY = (1290, 1792, 1836)
_PG_DENIED = "42501"
# Access to the database, a statement on a table, on a column, on a routine.
_MYSQL_DENIED = (1044, 1142, 1143, 1370)
# What PgBouncer says in words only.
_NO_TRANSACTIONS = "transaction blocks not allowed"
_NO_PARAMETER = "unsupported startup parameter"
_EXPLAINED = {
    _NO_TRANSACTIONS: "PgBouncer is in statement mode, without transactions: let it have `pool_mode = transaction`",
    _NO_PARAMETER: "PgBouncer takes no such parameter; a schema is named by batch.database_schema",
    "--read-only": "it takes no writes: it is a replica, or closed for writing",
    "read-only transaction": "it takes no writes: it is a replica, or default_transaction_read_only is on",
}
_EXPLAINED_SQLITE = {
    "SQLITE_NOTADB": "this is not a file of SQLite",
    "SQLITE_READONLY": "this user may not write the file or its directory",
    "SQLITE_CANTOPEN": "the file cannot be opened or made; SQLite needs to write the file and its directory",
    "SQLITE_BUSY": "another program keeps the file locked",
}


def is_conflict(error: DBAPIError) -> bool:
    """Whether only another transaction was in the way: the same again may work at once."""
    cause = error.orig
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return state in _PG_CONFLICTS
    if (name := getattr(cause, "sqlite_errorname", None)) is not None:
        return name.startswith(_SQLITE_CONFLICTS)
    return _mysql_code(cause) in _MYSQL_CONFLICTS


def is_outage(error: DBAPIError) -> bool:
    """Whether the database is away, or has dropped the connection: the same again may work later."""
    cause = error.orig
    if _NO_TRANSACTIONS in str(cause) or _NO_PARAMETER in str(cause):
        return False
    if error.connection_invalidated:
        return True
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return state.startswith(_PG_OUTAGES)
    if (name := getattr(cause, "sqlite_errorname", None)) is not None:
        return name.startswith(_SQLITE_OUTAGES)
    if (code := _mysql_code(cause)) is not None:
        return code in _MYSQL_OUTAGES
    # psycopg has no code for what the server did not say: it could not be reached, or closed the connection.
    return isinstance(error, OperationalError | InterfaceError)


def is_read_only(cause: BaseException) -> bool:
    """Whether the server takes no writes, by the driver's error: another connection may lead to one that does."""
    return getattr(cause, "sqlstate", None) == _PG_READ_ONLY or _mysql_code(cause) in _MYSQL_READ_ONLY


def is_denied(error: DBAPIError) -> bool:
    """Whether the user lacks a right."""
    return getattr(error.orig, "sqlstate", None) == _PG_DENIED or _mysql_code(error.orig) in _MYSQL_DENIED


def cause(error: DBAPIError) -> str:
    """The driver's message in one line, without the statement and its values, and what it means."""
    found = error.orig
    arguments: tuple[object, ...] = getattr(found, "args", ())
    text = arguments[1] if _mysql_code(found) is not None and len(arguments) > 1 else found
    message = " ".join(str(text).split())
    name = getattr(found, "sqlite_errorname", None) or ""
    for known, meaning in _EXPLAINED_SQLITE.items():
        if name.startswith(known):
            return f"{meaning} ({message})"
    for known, meaning in _EXPLAINED.items():
        if known in message:
            return f"{meaning} ({message})"
    return message


def _mysql_code(cause: BaseException | None) -> int | None:
    arguments = getattr(cause, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
