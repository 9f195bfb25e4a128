from __future__ import annotations

from tests.databases import (  # noqa: F401 - fixtures
    database_url,
    make_database,
    mariadb_server,
    postgres_server,
)
