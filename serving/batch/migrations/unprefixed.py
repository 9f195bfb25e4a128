"""The tables of version 0001: `items`, `runs` and `batch_version`, names that other programs have as well."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from serving.core.errors import ConfigurationError

_VERSION_TABLE = "batch_version"
VERSION = "0001"
_TABLES = {"items": "serving_items", "runs": "serving_runs"}
_INDEXES = ("status_id", "created_at")


def version(connection: Connection) -> str | None:
    """0001 where its tables are there; what never came to its end has written no version."""
    inspector = inspect(connection)
    if not inspector.has_table(_VERSION_TABLE):
        return None
    if [column["name"] for column in inspector.get_columns(_VERSION_TABLE)] != ["version_num"]:
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return found if found == VERSION else None


def rename(connection: Connection) -> None:
    """Give the tables their prefix, with all rows.

    `batch_version` stays and says that the tables are newer. Programs of version 0001 refuse them then, where they
    would otherwise make new, empty tables and score nothing.
    """
    for old, new in _TABLES.items():
        found = {name for name in (old, new) if inspect(connection).has_table(name)}
        if len(found) == 2:
            raise ConfigurationError(f"the table {old} is to be called {new}, which is there already; rename that one")
        if old in found:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
    parts = {"postgresql": _rename_parts_postgresql, "mysql": _rename_parts_mysql, "sqlite": _drop_indexes}
    parts[connection.dialect.name](connection)
    connection.execute(text(f"UPDATE {_VERSION_TABLE} SET version_num = '0002'"))  # noqa: S608 - a constant


def _rename_parts_postgresql(connection: Connection) -> None:
    for old, new in _TABLES.items():
        sequence = connection.execute(text(f"SELECT pg_get_serial_sequence('{new}', 'id')")).scalar()
        connection.execute(text(f"ALTER SEQUENCE {sequence} RENAME TO {new}_id_seq"))
        connection.execute(text(f"ALTER TABLE {new} RENAME CONSTRAINT pk_{old} TO pk_{new}"))
    connection.execute(text("ALTER TABLE serving_items RENAME CONSTRAINT ck_items_status TO ck_serving_items_status"))
    for columns in _INDEXES:
        connection.execute(text(f"ALTER INDEX ix_items_{columns} RENAME TO ix_serving_items_{columns}"))


def _rename_parts_mysql(connection: Connection) -> None:
    for columns in _INDEXES:
        if f"ix_items_{columns}" in {index["name"] for index in inspect(connection).get_indexes("serving_items")}:
            rename = f"RENAME INDEX ix_items_{columns} TO ix_serving_items_{columns}"
            connection.execute(text(f"ALTER TABLE serving_items {rename}"))
    for table in _TABLES.values():
        # A server with another default has made tables without transactions.
        if inspect(connection).get_table_options(table)["mysql_engine"] != "InnoDB":
            connection.execute(text(f"ALTER TABLE {table} ENGINE = InnoDB"))


def _drop_indexes(connection: Connection) -> None:
    """They cannot be renamed; the migration makes those that are missing."""
    for columns in _INDEXES:
        connection.execute(text(f"DROP INDEX IF EXISTS ix_items_{columns}"))
