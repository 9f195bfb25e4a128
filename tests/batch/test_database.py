"""URLs of databases, and databases as administrators set them up: rights, modes, connections that end."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError

from serving.batch.database import Database
from serving.batch.database_errors import cause
from serving.batch.database_url import driver_url, mysql_arguments, read_url, shown
from serving.batch.items import add_items, get_item
from serving.batch.migrate import migrate, require_tables
from serving.batch.persistence import DatabaseAwayError, Persistent
from serving.batch.rights import explain
from serving.batch.scorer import Plan
from serving.batch.tables import Item
from serving.core.errors import ConfigurationError
from tests.batch.rows import Silent, Sums, fill, rows, score
from tests.databases import Server
from tests.server import ROOT


def arguments(url: str) -> dict[str, Any]:
    """What the driver gets."""
    database = Database(url)
    found = database.engine.dialect.create_connect_args(driver_url(database.url, database.kind))[1]
    if database.kind == "mysql":
        found |= mysql_arguments(database.url)
    return {name: value for name, value in found.items() if name not in ("context", "client_flag")}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@h/d", {"user": "u", "password": "p", "host": "h", "dbname": "d"}),
        ("postgresql+psycopg://u:%40%2F%25@h/d", {"user": "u", "password": "@/%", "host": "h", "dbname": "d"}),
        ("postgresql://[::1]:1/d?sslmode=require", {"host": "::1", "port": 1, "dbname": "d", "sslmode": "require"}),
        ("postgresql:///d?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "d"}),
        ("postgresql://u@%2Frun%2Fpostgresql/d", {"user": "u", "host": "/run/postgresql", "dbname": "d"}),
        ("postgresql://u:p@a:1,b:2/d", {"user": "u", "password": "p", "host": "a,b", "port": "1,2", "dbname": "d"}),
        ("mysql://u:p%40@h/d", {"user": "u", "password": "p@", "host": "h", "database": "d"}),
        ("mariadb+pymysql://u@[::1]:1/d?charset=utf8mb4", {"user": "u", "host": "::1", "port": 1, "database": "d"}),
        ("mysql://u@localhost/d?socket=/s", {"user": "u", "host": "localhost", "database": "d", "unix_socket": "/s"}),
        ("mysql+pymysql://u@%2Fs/d", {"user": "u", "host": "%2Fs", "database": "d", "unix_socket": "/s"}),
        ("mysql://h/d?ssl-mode=disabled", {"host": "h", "database": "d", "ssl_disabled": True}),
        ("mysql://h/d?connect_timeout=3", {"host": "h", "database": "d", "connect_timeout": 3}),
    ],
)  # fmt: skip
def test_urls(url: str, expected: dict[str, Any]) -> None:
    assert arguments(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:hidden@h/d?ssl=true", "'ssl' is no parameter of postgresql://; known: service, user"),
        ("mysql://u:hidden@h/d?sslrootcert=x", "'sslrootcert' is no parameter of mysql://; known: ssl-mode, ssl-ca"),
        ("mysql://u:hidden@h/d?ssl_ca=a&ssl-ca=b", "ssl-ca is given twice"),
        ("mysql://u:hidden@h/d?charset=latin1", "charset: rows are written as utf8mb4"),
        ("mysql://u:hidden@h/d?connect_timeout=x", "connect-timeout: not a number of seconds"),
        ("postgresql://u:hidden@t@h/d", "an @ in the name or the password of the user is written as %40"),
        ("postgresql://u:hidden@h:port/d", "not a URL of a database"),
        ("postgresql+psycopg2://u:hidden@h/d", "postgresql+psycopg2:// is not known; use"),
        ("sqlite://rows.db", "sqlite:/// needs the name of a file, after three slashes"),
        ("sqlite:///rows.db?cache=shared", "'cache' is no parameter of sqlite:///; there are none"),
    ],
)
def test_urls_that_cannot_be_used(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database(url)
    assert str(caught.value).startswith(f"batch.database_url: {reason}")
    assert "hidden" not in str(caught.value)


def test_no_secret_of_a_url_is_shown() -> None:
    read, _ = read_url("postgresql://u:secret@a:1,b:2/d?sslpassword=secret&password=secret")
    assert shown(read) == "postgresql+psycopg://u:***@/d?host=a%3A1&host=b%3A2"


def test_a_schema_is_for_postgresql_only() -> None:
    with pytest.raises(ConfigurationError, match="database_schema is for PostgreSQL"):
        Database("mysql://h/d", schema="rows")


@contextmanager
def powerless() -> Iterator[None]:
    """As a user who may not write everything, which is this one unless it is root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(before)


class TestSqliteFiles:
    def reason(self, url: str) -> str:
        database = Database(url)
        with pytest.raises(DBAPIError) as caught:
            migrate(database)
        return cause(caught.value)

    def test_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "rows.db").write_text("model,values\n" * 100)
        assert self.reason(f"sqlite:///{tmp_path}/rows.db").startswith("this is not a file of SQLite")

    def test_a_directory(self, tmp_path: Path) -> None:
        assert self.reason(f"sqlite:///{tmp_path}").startswith("the file cannot be opened or made")

    def test_read_only(self) -> None:
        """A file that this user may read, and a directory where it may not make one."""
        with TemporaryDirectory(prefix="read-only-") as directory:
            made = Database(f"sqlite:///{directory}/rows.db")
            migrate(made)
            Path(directory, "rows.db").chmod(0o444)
            Path(directory).chmod(0o555)
            with powerless():
                assert self.reason(f"sqlite:///{directory}/new.db").startswith("the file cannot be opened or made")
                with pytest.raises(DBAPIError) as caught:
                    score(made)
            assert "this user may not write the file or its directory" in cause(caught.value)
            Path(directory).chmod(0o755)

    def test_locked_for_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("serving.batch.database.BUSY_SECONDS", 0.1)
        other = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert self.reason(f"sqlite:///{tmp_path}/rows.db").startswith("another program keeps the file locked")
        other.close()


PASSWORD = "secret"  # noqa: S105 - of users that the tests make


def as_user(url: str, user: str) -> str:
    return make_url(url).set(username=user, password=PASSWORD).render_as_string(hide_password=False)


@pytest.fixture
def run_as(make_database: Callable[[str], str]) -> Iterator[Callable[[str], tuple[Database, str]]]:
    """For a kind: a new database by its administrator, and the name of a user without any right."""
    with ExitStack() as stack:

        def make(kind: str) -> tuple[Database, str]:
            administrator = Database(make_database(kind))
            user = f"scorer_{secrets.token_hex(4)}"
            made = f"CREATE ROLE {user} LOGIN PASSWORD 'secret'"
            gone = [f"DROP OWNED BY {user}", f"DROP ROLE {user}"]
            if kind == "mariadb":
                made, gone = f"CREATE USER {user} IDENTIFIED BY 'secret'", [f"DROP USER {user}"]
            _execute(administrator, made)
            stack.callback(administrator.close)
            stack.callback(_execute, administrator, *gone)
            return administrator, user

        yield make


def _execute(database: Database, *statements: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def documented_grants(kind: str) -> list[str]:
    """What docs/batch.md gives a user who scores."""
    blocks = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "batch.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if "GRANT" in block and (("USAGE" in block) == (kind == "postgres")))
    return [line.partition(";")[0] for line in block.splitlines() if line.startswith("GRANT")]


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_who_scores_needs_the_documented_rights_only(run_as: Callable[..., Any], kind: str) -> None:
    administrator, user = run_as(kind)
    migrate(administrator)
    fill(administrator, 5)
    url = as_user(administrator.url.render_as_string(hide_password=False), user)
    scorer = Database(url, idle_seconds=30)
    grants = [grant.replace(" scorer", f" {user}") for grant in documented_grants(kind)]
    _execute(administrator, *grants[:1])
    with pytest.raises(DBAPIError) as caught:
        score(scorer)
    told = explain(scorer, caught.value)
    assert "secret" not in told
    if kind == "postgres":
        assert "permission denied for" in told
        assert f"the user {user} lacks SELECT on serving_items, INSERT on serving_items, UPDATE on" in told
        assert "version" not in told
    else:
        assert f"INSERT command denied to user '{user}'" in told
    _execute(administrator, *grants[1:])
    require_tables(scorer)
    assert score(scorer).succeeded == 5
    assert add_items(scorer, [("sums", [1]), ("sums", [2])]) == [6, 7]
    assert migrate(scorer) == ("0002", "0002"), "which finds nothing to do"
    scorer.close()


def test_who_may_not_make_tables_is_told_what_is_missing(run_as: Callable[..., Any]) -> None:
    administrator, user = run_as("postgres")
    database = Database(as_user(administrator.url.render_as_string(hide_password=False), user))
    with pytest.raises(ConfigurationError) as caught:
        migrate(database)
    assert f"the user {user} may not make tables in the schema public; run `serving batch init` as" in str(caught.value)
    # A schema that is the user's own is enough.
    _execute(administrator, f"CREATE SCHEMA rows AUTHORIZATION {user}")
    own = Database(as_user(administrator.url.render_as_string(hide_password=False), user), schema="rows")
    assert migrate(own) == (None, "0002")
    fill(own, 3)
    assert score(own).succeeded == 3
    own.close()
    database.close()


def test_mariadb_says_which_right_is_missing(run_as: Callable[..., Any]) -> None:
    administrator, user = run_as("mariadb")
    name = administrator.url.database
    _execute(administrator, f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {user}")
    database = Database(as_user(administrator.url.render_as_string(hide_password=False), user))
    with pytest.raises(DBAPIError) as caught:
        migrate(database)
    assert f"CREATE command denied to user '{user}'" in cause(caught.value)
    database.close()


def test_transactions_of_another_default_isolation(make_database: Callable[[str], str]) -> None:
    url = make_database("postgres")
    administrator = Database(url)
    _execute(
        administrator, f"ALTER DATABASE {administrator.url.database} SET default_transaction_isolation = serializable"
    )
    administrator.close()
    databases = [Database(url) for _ in range(3)]
    migrate(databases[0])
    fill(databases[0], 100)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda each: score(each, Plan(chunk_rows=5)), databases))
    assert sum(each.succeeded for each in found) == 100
    assert rows(databases[0], Item.attempts) == [1] * 100
    for database in databases:
        database.close()


def test_a_database_that_takes_no_writes_is_said_and_waited_for(make_database: Callable[[str], str]) -> None:
    """As a replica does, or a server after a failover."""
    url = make_database("postgres")
    administrator, database = Database(url), Database(url)
    migrate(database)
    fill(database, 3)
    database.close()
    name = administrator.url.database
    _execute(administrator, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(
        DatabaseAwayError, match="it takes no writes: it is a replica, or default_transaction_read_only"
    ):
        score(database, Plan(retry_seconds=0))
    troubles: list[str] = []

    def mend(message: str) -> None:
        troubles.append(message)
        writing = text(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        with administrator.write() as connection:
            connection.execute(writing)

    progress = Silent()
    progress.trouble = mend  # type: ignore[method-assign]
    assert score(database, progress=progress).succeeded == 3
    assert "takes no writes" in troubles[0]
    administrator.close()
    database.close()


def test_tables_of_mariadb_do_not_depend_on_the_servers_defaults(
    make_database: Callable[[str], str], mariadb_server: Server
) -> None:
    administrator = Database(mariadb_server.url)
    names = ("sql_mode", "default_storage_engine")
    with administrator.read() as connection:
        before = connection.execute(text(f"SELECT {', '.join('@@global.' + name for name in names)}")).one()
    _execute(
        administrator,
        "SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', GLOBAL default_storage_engine = MyISAM",
    )
    try:
        database = Database(make_database("mariadb"))
        migrate(database)
        fill(database, 1, values=['it\'s \\ "quoted"'])
        fill(database, 1, values={"no": "list \\'"})
        summary = score(database, models={"sums": _Echo()})
        assert (summary.succeeded, summary.failed) == (1, 1)
        assert rows(database, Item.values)[0] == ['it\'s \\ "quoted"']
        engines = text("SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = database()")
        with database.read() as connection:
            assert connection.execute(engines).scalars().all() == ["InnoDB"]
        with pytest.raises(DBAPIError, match="Data too long"):
            fill(database, 1, model="m" * 200)
        database.close()
    finally:
        for name, value in zip(names, before, strict=True):
            with administrator.write() as connection:
                connection.execute(text(f"SET GLOBAL {name} = :value"), {"value": value})
        administrator.close()


class _Echo(Sums):
    def predict(self, values: Any) -> Any:
        return super().predict(["[1]" if text.startswith("[") else text for text in values])


def end_connections(administrator: Database) -> None:
    """Close all others of the same database, as an administrator, a proxy or a failover does."""
    if administrator.kind == "postgresql":
        _execute(
            administrator,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()",
        )
        return
    with administrator.write() as connection:
        others = text("SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()")
        for number in connection.execute(others).scalars().all():
            with suppress(DBAPIError):  # it has ended by itself
                connection.execute(text(f"KILL {number}"))


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_connections_that_the_server_ends(make_database: Callable[[str], str], kind: str) -> None:
    url = make_database(kind)
    administrator, database = Database(url), Database(url)
    migrate(database)
    fill(database, 30)
    times = iter(range(3))

    def end() -> None:
        if next(times, None) is not None:
            end_connections(administrator)

    progress = Silent()
    summary = score(database, Plan(chunk_rows=5, retry_seconds=30), models={"sums": Sums(end)}, progress=progress)
    assert (summary.succeeded, len(progress.troubles)) == (30, 3)
    assert rows(database, Item.attempts) == [1] * 30
    end_connections(administrator)
    # What the API does, which does not repeat it.
    assert get_item(database, 1) is not None
    end_connections(administrator)
    assert len(add_items(database, [("sums", [1])])) == 1
    administrator.close()
    database.close()


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_deadlocks_are_tried_again(make_database: Callable[[str], str], kind: str) -> None:
    url = make_database(kind)
    first, second = Database(url), Database(url)
    migrate(first)
    fill(first, 2)
    both = Barrier(2)

    def lock(database: Database, order: list[int], tries: list[int]) -> None:
        tries.append(0)
        with database.write() as connection:
            for number in order:
                connection.execute(select(Item.id).where(Item.id == number).with_for_update())
                if len(tries) == 1 and number == order[0]:
                    both.wait(60)

    tries: dict[str, list[int]] = {"first": [], "second": []}
    with ThreadPoolExecutor(2) as threads:
        done = [
            threads.submit(Persistent(first, seconds=60), lambda: lock(first, [1, 2], tries["first"])),
            threads.submit(Persistent(second, seconds=60), lambda: lock(second, [2, 1], tries["second"])),
        ]
        for each in done:
            each.result()
    assert sorted(map(len, tries.values())) == [1, 2]
    first.close()
    second.close()
