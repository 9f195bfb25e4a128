"""Databases for the tests: private servers started from binaries, or those that environment variables name.

Each test gets a database of its own. The private ones may be killed and started again.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Protocol

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.server import free_port

POSTGRES_VARIABLE = "SERVING_TEST_POSTGRES_URL"
MARIADB_VARIABLE = "SERVING_TEST_MARIADB_URL"
NO_SKIPS_VARIABLE = "CI_FORBIDS_SKIPS"
KINDS = ("sqlite", "mariadb", "postgres")
START_SECONDS = 30.0
STOP_SECONDS = 30.0
STARTS = 3
# Distributions keep the programs of PostgreSQL where PATH does not lead.
_POSTGRES_DIRECTORIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
}


class Server(Protocol):
    """A database server. `url` is that of a user who may make databases."""

    url: str


class GivenServer:
    """A server that is not the tests' own: it is neither stopped nor configured."""

    def __init__(self, url: str) -> None:
        self.url = url


class PrivateServer(ABC):
    """A server of the tests' own. What it has committed outlives `kill`; a crash of the machine only when `durable`."""

    def __init__(self, directory: Path, *, durable: bool, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.durable = durable
        self.options = options
        self.port = free_port()
        self.log = directory / "log.txt"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        # Servers refuse to run as root: nobody, who has no rights anywhere else, runs them then.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it in the foreground."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the data directory."""

    def start(self) -> None:
        """Start it, or start it again with what it had stored, and wait until it answers."""
        assert self._process is None, "it runs"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_user()
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, as when the machine's memory runs out. Children of PostgreSQL end by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it at once, since nobody needs it again. Does nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_SECONDS)
            finally:
                self.kill()

    stop_signal = signal.SIGKILL

    def own(self, directory: Path) -> None:
        """Give a directory to the user that the server runs as."""
        directory.mkdir(exist_ok=True)
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=120, **self._as_user()
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        engine = create_engine(self.url, poolclass=NullPool)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with engine.connect():
                    return
            except DBAPIError:
                time.sleep(0.02)
        raise AssertionError(f"{self.command()[0]} did not start:\n{self.log.read_text()[-4000:]}")


class PrivatePostgres(PrivateServer):
    stop_signal = signal.SIGQUIT  # "immediate": waits for nothing, and leaves no shared memory

    def __init__(self, directory: Path, *, durable: bool, options: Sequence[str] = ()) -> None:
        super().__init__(directory, durable=durable, options=options)
        self.url = f"postgresql+psycopg://tests@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        self.own(self.directory)
        self.run(
            _postgres_program("initdb") or "initdb",
            *("--pgdata", "data", "--username", "tests", "--auth", "trust", "--encoding", "UTF8"),
            *("--locale", "C", "--no-sync"),
        )

    def command(self) -> list[str]:
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        options |= {} if self.durable else {"fsync": "off", "full_page_writes": "off"}
        options |= {"max_connections": 50, "shared_buffers": "64MB"}
        settings = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        return [_postgres_program("postgres") or "postgres", "-D", "data", *settings, *self.options]


class PrivateMariaDb(PrivateServer):
    def __init__(self, directory: Path, *, durable: bool, options: Sequence[str] = ()) -> None:
        super().__init__(directory, durable=durable, options=options)
        self.url = f"mysql+pymysql://tests@127.0.0.1:{self.port}/mysql"

    def prepare(self) -> None:
        self.own(self.directory)
        self.own(self.directory / "data")
        user = [] if self._user is None else [f"--user={self._user.pw_name}"]
        self.run(
            "mariadb-install-db",
            *("--no-defaults", f"--datadir={self.directory}/data", "--skip-test-db", *user),
            "--auth-root-authentication-method=normal",
        )
        statements = self.directory / "user.sql"
        statements.write_text(
            # MariaDB reads one statement from a line.
            "CREATE USER IF NOT EXISTS tests@'127.0.0.1';\n"
            "GRANT ALL PRIVILEGES ON *.* TO tests@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def command(self) -> list[str]:
        return [
            shutil.which("mariadbd") or "mariadbd",
            *("--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.directory}/socket"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", f"--pid-file={self.directory}/pid"),
            *("--skip-name-resolve", f"--init-file={self.directory}/user.sql"),
            *([] if self.durable else ["--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync"]),
            *self.options,
        ]


def _postgres_program(name: str) -> str | None:
    found = shutil.which(name)
    return found or next((str(place / name) for place in _POSTGRES_DIRECTORIES if (place / name).exists()), None)


def skip(reason: str) -> NoReturn:
    if os.environ.get(NO_SKIPS_VARIABLE):
        pytest.fail(f"{reason}; {NO_SKIPS_VARIABLE} is set")
    pytest.skip(reason)


@contextmanager
def private_server(kind: str, *, durable: bool = False, options: Sequence[str] = ()) -> Iterator[PrivateServer]:
    """A new server of `kind`, "postgres" or "mariadb"; skips the test where its programs are not installed.

    It does not wait for the disk unless it is to be `durable`: tests kill servers, not machines. `options` are those
    of its command line.
    """
    if kind == "postgres" and not (_postgres_program("postgres") and _postgres_program("initdb")):
        skip("no postgres and initdb on PATH")
    if kind == "mariadb" and not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        skip("no mariadbd and mariadb-install-db on PATH")
    # Not below pytest's own directory, which is for its user alone.
    with TemporaryDirectory(prefix=f"{kind}-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        place = Path(directory) / "server"
        place.mkdir()
        server = _started(kind, place, durable=durable, options=options)
        try:
            yield server
        finally:
            server.stop()


def _started(kind: str, directory: Path, *, durable: bool, options: Sequence[str]) -> PrivateServer:
    make = PrivatePostgres if kind == "postgres" else PrivateMariaDb
    server = make(directory, durable=durable, options=options)
    server.prepare()
    for attempt in range(STARTS):
        try:
            server.start()
            break
        except AssertionError:  # somebody else may have taken the port meanwhile
            if attempt == STARTS - 1:
                raise
            server = make(directory, durable=durable, options=options)
    return server


def new_database(server: Server) -> str:
    """The URL of a new, empty database of `server`."""
    name = f"serving_{secrets.token_hex(6)}"
    _as_administrator(server, f"CREATE DATABASE {name}")
    return make_url(server.url).set(database=name).render_as_string(hide_password=False)


def drop_database(server: Server, url: str) -> None:
    forced = " WITH (FORCE)" if url.startswith("postgres") else ""
    _as_administrator(server, f"DROP DATABASE IF EXISTS {make_url(url).database}{forced}")


def _as_administrator(server: Server, statement: str) -> None:
    engine = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))


@contextmanager
def _given_or_private(kind: str, variable: str) -> Iterator[Server]:
    given = os.environ.get(variable)
    if given:
        url = make_url(given)
        yield GivenServer(url.set(drivername=_DRIVERS[url.drivername]).render_as_string(hide_password=False))
        return
    with private_server(kind) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL for the tests that leave it running."""
    with _given_or_private("postgres", POSTGRES_VARIABLE) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """One MariaDB for the tests that leave it running."""
    with _given_or_private("mariadb", MARIADB_VARIABLE) as server:
        yield server


@pytest.fixture
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes databases of a kind of `KINDS`, for this test alone; their URLs."""
    made: list[tuple[Server, str]] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/batch-{secrets.token_hex(4)}.db"
        server: Server = request.getfixturevalue(f"{kind}_server")
        made.append((server, new_database(server)))
        return made[-1][1]

    yield make
    for server, url in made:
        drop_database(server, url)


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, make_database: Callable[[str], str]) -> str:
    """A new database of each kind."""
    return make_database(request.param)
