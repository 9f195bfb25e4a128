"""The tables as version 0001 made them, without a prefix, and with rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.dialects import mysql

from serving.batch.clock import Utc, utc_now

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_OPTIONS: dict[str, Any] = {"sqlite_autoincrement": True, "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def make(connection: sa.Connection, *, rows: int, version: str | None = "0001") -> None:
    op = Operations(MigrationContext.configure(connection))
    op.create_table(
        "items",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("prediction", sa.JSON()),
        sa.Column("label", sa.String(200)),
        sa.Column("model_tag", sa.String(200)),
        sa.Column("status", sa.String(16), server_default="unpredicted", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", _LONG_TEXT),
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("claimed_until", Utc()),
        sa.Column("created_at", Utc(), server_default=utc_now(), nullable=False),
        sa.Column("updated_at", Utc(), server_default=utc_now(), nullable=False),
        sa.CheckConstraint("status IN ('unpredicted', 'predicted', 'failed')", name=op.f("ck_items_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_items_status_id"), "items", ["status", "id"])
    op.create_index(op.f("ix_items_created_at"), "items", ["created_at"])
    op.create_table(
        "runs",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("started_at", Utc(), server_default=utc_now(), nullable=False),
        sa.Column("updated_at", Utc(), server_default=utc_now(), nullable=False),
        sa.Column("finished_at", Utc()),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("scorer", sa.String(200), nullable=False),
        sa.Column("claimed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("succeeded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("error", _LONG_TEXT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        **_OPTIONS,
    )
    versions = sa.table("batch_version", sa.column("version_num"))
    op.create_table("batch_version", sa.Column("version_num", sa.String(32), primary_key=True))
    if version is not None:
        connection.execute(versions.insert().values(version_num=version))
    items = sa.table("items", sa.column("model"), sa.column("values", sa.JSON))
    connection.execute(items.insert(), [{"model": "sums", "values": [number]} for number in range(rows)])
