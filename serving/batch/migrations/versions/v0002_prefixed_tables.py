"""The tables of the rows and of the runs. Those that version 0001 made have no prefix, and are renamed.

MariaDB and MySQL commit each change of a table at once, so every step is left out that an earlier try has done.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from serving.batch.clock import Utc, utc_now
from serving.batch.migrations import unprefixed

revision = "0002"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    if unprefixed.version(op.get_bind()) is not None:
        unprefixed.rename(op.get_bind())
    if _is_missing("serving_items"):
        op.create_table(
            "serving_items",
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
            sa.CheckConstraint(
                "status IN ('unpredicted', 'predicted', 'failed')", name=op.f("ck_serving_items_status")
            ),
            sa.PrimaryKeyConstraint("id", name=op.f("pk_serving_items")),
            **_OPTIONS,
        )
    for columns in (["status", "id"], ["created_at"]):
        name = f"ix_serving_items_{'_'.join(columns)}"
        if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("serving_items")}:
            op.create_index(op.f(name), "serving_items", columns)
    if _is_missing("serving_runs"):
        op.create_table(
            "serving_runs",
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
            sa.PrimaryKeyConstraint("id", name=op.f("pk_serving_runs")),
            **_OPTIONS,
        )


def _is_missing(table: str) -> bool:
    return not sa.inspect(op.get_bind()).has_table(table)
