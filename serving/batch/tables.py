"""The tables: rows to score, and the runs that scored them."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    cast,
    type_coerce,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from serving.batch.clock import Utc, utc_now

# SQLite assigns ids by itself in a column of exactly this type.
_Id = BigInteger().with_variant(Integer, "sqlite")
# A prediction over a thousand classes with its error is longer than the 64 KiB that a MySQL TEXT has.
_LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
# 1 null: an empty column, never the JSON value `null`.
_Json = JSON(none_as_null=True)


class _JsonText(TypeDecorator[str]):
    """SQLite keeps text that is a number as a number (https://www.sqlite.org/datatype3.html#type_affinity)."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return json.dumps(value) if isinstance(value, int | float) else value


def json_text(column: Any, kind: str) -> Any:
    """A column of JSON as the text that it is: other programs may have written what Python would not read.

    Args:
        kind: of the database. PostgreSQL's driver would decode JSON.
    """
    return cast(column, Text) if kind == "postgresql" else type_coerce(column, _JsonText)


ITEMS = "serving_items"
RUNS = "serving_runs"
VERSION = "serving_version"
"""The table with the version of the others."""
NAME_LENGTH = 100
LABEL_LENGTH = 200
ERROR_LENGTH = 2000


class Status(StrEnum):
    """The state of a row. The scorer that holds it is known by a lock, in SQLite by a lease."""

    UNPREDICTED = "unpredicted"
    PREDICTED = "predicted"
    FAILED = "failed"


_OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Item(Base):
    """A row to score. Other programs insert `model` and `values`; the other columns have defaults."""

    __tablename__ = ITEMS

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    model: Mapped[str] = mapped_column(String(NAME_LENGTH))
    values: Mapped[Any] = mapped_column(_Json, nullable=False)
    """What the model takes: for a model of rows, a list or an object by column name."""
    prediction: Mapped[Any | None] = mapped_column(_Json)
    """What `/predict` answers for the row: for a classification of rows, the probabilities of the classes."""
    label: Mapped[str | None] = mapped_column(String(LABEL_LENGTH))
    """The most probable class."""
    model_tag: Mapped[str | None] = mapped_column(String(LABEL_LENGTH))
    """Name and version of the stored model that scored it."""
    status: Mapped[str] = mapped_column(String(16), server_default=Status.UNPREDICTED.value)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    """How often it was scored, with or without success."""
    error: Mapped[str | None] = mapped_column(_LongText)
    """Why it failed."""
    claimed_by: Mapped[str | None] = mapped_column(String(64))
    """The claim that holds it, where the database cannot skip locked rows."""
    claimed_until: Mapped[datetime | None] = mapped_column(Utc)
    created_at: Mapped[datetime] = mapped_column(Utc, server_default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(Utc, server_default=utc_now())

    __table_args__ = (
        CheckConstraint("status IN ('unpredicted', 'predicted', 'failed')", name="status"),
        # Claims and pages scan the rows of one status in the order of their ids.
        Index(None, "status", "id"),
        Index(None, "created_at"),
        _OPTIONS,
    )


class Run(Base):
    """One run of `serving batch score`. A run that was killed has no end."""

    __tablename__ = RUNS

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    started_at: Mapped[datetime] = mapped_column(Utc, server_default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(Utc, server_default=utc_now())
    finished_at: Mapped[datetime | None] = mapped_column(Utc)
    scope: Mapped[Any] = mapped_column(_Json, nullable=False)
    """The options that chose its rows."""
    scorer: Mapped[str] = mapped_column(String(LABEL_LENGTH))
    """Host and process."""
    claimed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    succeeded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    outcome: Mapped[str | None] = mapped_column(String(16))
    """How it ended; see `serving.batch.runs.Outcome`."""
    error: Mapped[str | None] = mapped_column(_LongText)

    __table_args__ = (_OPTIONS,)
