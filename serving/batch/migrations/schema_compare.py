"""How Alembic compares the tables of a database with the models."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import mysql
from sqlalchemy.types import JSON


def same_type(_context: Any, _inspected: Any, _declared: Any, found: Any, wanted: Any) -> bool | None:
    """Whether a column has to change: MariaDB's JSON is its LONGTEXT with a check; of the rest Alembic judges."""
    if isinstance(found, mysql.LONGTEXT) and isinstance(wanted, JSON):
        return False
    return None
