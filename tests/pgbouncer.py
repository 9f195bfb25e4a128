"""A private PgBouncer in front of a PostgreSQL of the tests."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from sqlalchemy import make_url

from tests.databases import START_SECONDS, PrivateServer, Server, skip

POOL = 3
"""Connections to the server, for any number of clients."""


class PrivatePgBouncer(PrivateServer):
    def __init__(self, directory: Path, server: Server, *, mode: str) -> None:
        super().__init__(directory, durable=False)
        self._server = make_url(server.url)
        self._mode = mode

    def prepare(self) -> None:
        self.own(self.directory)
        user, password = self._server.username or "", self._server.password or ""
        (self.directory / "users.txt").write_text(f'"{user}" "{password}"\n')
        (self.directory / "pgbouncer.ini").write_text(f"""
[databases]
* = host={self._server.host} port={self._server.port or 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = {"plain" if password else "trust"}
auth_file = {self.directory}/users.txt
admin_users = {user}
pool_mode = {self._mode}
default_pool_size = {POOL}
""")

    def command(self) -> list[str]:
        return [shutil.which("pgbouncer") or "pgbouncer", f"{self.directory}/pgbouncer.ini"]

    def through(self, url: str) -> str:
        """The URL of a database of the server, by way of this pool."""
        return make_url(url).set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        user, password = self._server.username, self._server.password
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with psycopg.connect(
                    host="127.0.0.1", port=self.port, user=user, password=password, dbname="pgbouncer", autocommit=True
                ):
                    return
            except psycopg.OperationalError:
                time.sleep(0.02)
        raise AssertionError(f"pgbouncer did not start:\n{self.log.read_text()[-4000:]}")


@contextmanager
def pgbouncer(server: Server, *, mode: str = "transaction") -> Iterator[PrivatePgBouncer]:
    """A new PgBouncer in front of `server`; skips the test where it is not installed."""
    if shutil.which("pgbouncer") is None:
        skip("no pgbouncer on PATH")
    with TemporaryDirectory(prefix="pgbouncer-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        place = Path(directory) / "server"
        place.mkdir()
        started = PrivatePgBouncer(place, server, mode=mode)
        started.prepare()
        started.start()
        try:
            yield started
        finally:
            started.kill()
