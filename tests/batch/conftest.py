from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from serving.batch.database import Database
from serving.batch.migrate import migrate
from tests.batch.scorers import scorers  # noqa: F401 - a fixture
from tests.databases import (  # noqa: F401 - fixtures
    KINDS,
    GivenServer,
    Server,
    database_url,
    drop_database,
    make_database,
    mariadb_server,
    new_database,
    postgres_server,
)


@pytest.fixture
def empty_database(database_url: str) -> Iterator[Database]:  # noqa: F811
    """A new database of each kind, without tables."""
    opened = Database(database_url, connections=5)
    yield opened
    opened.close()


_TRUNCATE = {
    "postgresql": ["TRUNCATE serving_items, serving_runs RESTART IDENTITY"],
    "mysql": ["TRUNCATE serving_items", "TRUNCATE serving_runs"],
}


@pytest.fixture(scope="session")
def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """The URL of a database of a kind that has the tables; one for the session, in SQLite a file to copy."""
    made: dict[str, str] = {}
    used: list[tuple[Server, str]] = []

    def make(kind: str) -> str:
        if kind not in made:
            if kind == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('migrated')}/batch.db"
            else:
                server = request.getfixturevalue(f"{kind}_server")
                url = new_database(server)
                if isinstance(server, GivenServer):  # a private one goes with all that it has
                    used.append((server, url))
            made[kind] = url
            database = Database(url)
            migrate(database)
            database.close()
        return made[kind]

    yield make
    for server, url in used:
        drop_database(server, url)


@pytest.fixture
def clean_url(migrated: Callable[[str], str], tmp_path: Path) -> Callable[[str], str]:
    """The URL of a database of a kind, with empty tables."""

    def clean(kind: str) -> str:
        url = migrated(kind)
        if kind == "sqlite":
            copied = shutil.copy(url.removeprefix("sqlite:///"), tmp_path / "batch.db")
            return f"sqlite:///{copied}"
        database = Database(url)
        with database.write() as connection:
            for statement in _TRUNCATE[database.kind]:
                connection.execute(text(statement))
        database.close()
        return url

    return clean


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, clean_url: Callable[[str], str]) -> Iterator[Database]:
    """A database of each kind, with empty tables."""
    opened = Database(clean_url(request.param), connections=5)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(clean_url: Callable[[str], str]) -> Iterator[Database]:
    """A SQLite file with empty tables, for what is the same on all databases."""
    opened = Database(clean_url("sqlite"))
    yield opened
    opened.close()
