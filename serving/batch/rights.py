"""Which rights a user of PostgreSQL lacks: its own errors name the table, but not the right."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from serving.batch.database import Database
from serving.batch.database_errors import cause, is_denied
from serving.batch.tables import ITEMS, RUNS, VERSION

_TABLES = [(table, right) for table in (ITEMS, RUNS) for right in ("SELECT", "INSERT", "UPDATE")] + [
    (VERSION, "SELECT")
]
_SEQUENCES = [(f"{table}_id_seq", "USAGE") for table in (ITEMS, RUNS)]


def explain(database: Database, error: DBAPIError) -> str:
    """The driver's message in one line, with the rights that the user lacks for scoring."""
    message = cause(error)
    if database.kind != "postgresql" or not is_denied(error):
        return message
    with suppress(DBAPIError):
        user, missing = _missing(database)
        if missing:
            return f"{message}; the user {user} lacks {', '.join(missing)}"
    return message


def _missing(database: Database) -> tuple[str, list[str]]:
    checks = {"table": _TABLES, "sequence": _SEQUENCES}
    with database.read() as connection:
        user: str = connection.execute(text("SELECT current_user")).scalar_one()
        missing = [
            f"{right} on {name}"
            for kind, needed in checks.items()
            for name, right in needed
            if not connection.execute(
                text(f"SELECT has_{kind}_privilege(:name, :right)"), {"name": name, "right": right}
            ).scalar()
        ]
    return user, missing
