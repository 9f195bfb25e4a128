"""The one clock of the batch pattern: the database's, in UTC, whatever the hosts of the scorers say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

# As SQLAlchemy writes times into SQLite, so that they compare as text; SQLite's clock has milliseconds.
SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"


class Utc(TypeDecorator[datetime]):
    """A moment with microseconds. Python sees it with its time zone, UTC; one without is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its time zone")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):
    """The moment by the database's clock, not that at which its transaction began."""

    type = Utc()
    inherit_cache = True


# Each in the form that it may have as the default of a column as well.
NOW = {
    "postgresql": "clock_timestamp()",
    "mysql": "utc_timestamp(6)",
    "mariadb": "utc_timestamp(6)",
    "sqlite": f"strftime('{SQLITE_FORMAT}', 'now')",
}


@compiles(utc_now)
def _now(_element: utc_now, compiler: SQLCompiler, **_: Any) -> str:
    return f"({NOW[compiler.dialect.name]})"
