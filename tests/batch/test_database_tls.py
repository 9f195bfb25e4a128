"""TLS to the database, with the parameters of each database's own tools, against servers with certificates."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from serving.batch.database import Database
from serving.batch.database_errors import cause
from serving.core.errors import ConfigurationError
from tests.databases import GivenServer, PrivateServer, Server, private_server, skip

_IN_TLS = {
    "postgres": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mariadb": "SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
}


@pytest.fixture(scope="module")
def pki() -> Iterator[Path]:
    """Keys and certificates: `server` and `client` by `ca`, and `other`, a CA that has signed nothing.

    The server's certificate is for `localhost`, and not for 127.0.0.1.
    """
    if shutil.which("openssl") is None:
        skip("no openssl on PATH")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    # Not below pytest's own directory, which is for its user alone.
    with TemporaryDirectory(prefix="pki-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for owner in ("ca", "other", "server", "client"):
            files = ["-keyout", f"{owner}.key", "-out", f"{owner}.pem", "-subj", f"/CN={owner}"]
            signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
            subprocess.run(
                ["openssl", "req", "-x509", *curve, *files, "-addext", "subjectAltName=DNS:localhost"]
                + (signed if owner in ("server", "client") else []),
                cwd=directory,
                check=True,
                capture_output=True,
            )
        if os.geteuid() == 0:  # the servers run as nobody then
            os.chown(directory / "server.key", pwd.getpwnam("nobody").pw_uid, -1)
        yield directory


@pytest.fixture(scope="module")
def secure_postgres(pki: Path) -> Iterator[PrivateServer]:
    names = {"ssl": "on", "ssl_cert_file": f"{pki}/server.pem", "ssl_key_file": f"{pki}/server.key"}
    options = [part for name, value in names.items() for part in ("-c", f"{name}={value}")]
    with private_server("postgres", options=options) as started:
        yield started


@pytest.fixture(scope="module")
def secure_mariadb(pki: Path) -> Iterator[PrivateServer]:
    options = [f"--ssl-{name}={pki}/{file}" for name, file in (("cert", "server.pem"), ("key", "server.key"))]
    with private_server("mariadb", options=[*options, f"--ssl-ca={pki}/ca.pem"]) as started:
        database = Database(started.url)
        with database.write() as connection:
            connection.execute(text("CREATE USER known@'127.0.0.1' REQUIRE X509"))
        database.close()
        yield started


def url_of(server: Server, parameters: str, pki: Path, *, host: str = "localhost", user: str = "tests") -> str:
    url = make_url(server.url).set(host=host, username=user).render_as_string(hide_password=False)
    return f"{url}?{parameters.format(pki=pki)}"


def is_in_tls(url: str, kind: str) -> bool:
    database = Database(url)
    try:
        with database.read() as connection:
            return bool(connection.execute(text(_IN_TLS[kind])).scalar())
    finally:
        database.close()


def refusal(url: str) -> str:
    """What the operator is told, in one line."""
    try:
        is_in_tls(url, "postgres" if url.startswith("postgres") else "mariadb")
    except ConfigurationError as error:
        message = str(error)
    except DBAPIError as error:
        message = cause(error)
    else:
        raise AssertionError("it was not refused")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("parameters", ["sslmode=require", "sslmode=verify-full&sslrootcert={pki}/ca.pem"])
def test_postgresql_by_name(secure_postgres: PrivateServer, pki: Path, parameters: str) -> None:
    assert is_in_tls(url_of(secure_postgres, parameters, pki), "postgres")


def test_postgresql_by_authority_only(secure_postgres: PrivateServer, pki: Path) -> None:
    parameters = "sslmode=verify-ca&sslrootcert={pki}/ca.pem"
    assert is_in_tls(url_of(secure_postgres, parameters, pki, host="127.0.0.1"), "postgres")
    assert not is_in_tls(url_of(secure_postgres, "sslmode=disable", pki), "postgres")


@pytest.mark.parametrize(
    ("parameters", "host"),
    [
        ("ssl-mode=REQUIRED", "127.0.0.1"),
        ("ssl=true", "127.0.0.1"),
        ("ssl-mode=VERIFY_CA&ssl-ca={pki}/ca.pem", "127.0.0.1"),
        ("ssl_verify_cert=true&ssl_ca={pki}/ca.pem", "127.0.0.1"),
        ("ssl_ca={pki}/ca.pem&ssl_check_hostname=false", "127.0.0.1"),
        ("ssl_ca={pki}/other.pem&ssl-verify-server-cert=0", "127.0.0.1"),
        ("sslMode=verify_identity&sslCa={pki}/ca.pem", "localhost"),
        ("ssl-verify-server-cert=on&ssl-ca={pki}/ca.pem", "localhost"),
        ("ssl_ca={pki}/ca.pem", "localhost"),
    ],
)
def test_mariadb(secure_mariadb: PrivateServer, pki: Path, parameters: str, host: str) -> None:
    assert is_in_tls(url_of(secure_mariadb, parameters, pki, host=host), "mariadb")


def test_mariadb_with_a_certificate_of_the_client(secure_mariadb: PrivateServer, pki: Path) -> None:
    authority, own = "ssl-mode=VERIFY_CA&ssl-ca={pki}/ca.pem", "&ssl-cert={pki}/client.pem&ssl-key={pki}/client.key"
    url = f"{url_of(secure_mariadb, authority + own, pki, user='known')}"
    database = Database(url.replace("/mysql?", "/information_schema?"))
    with database.read() as connection:
        assert connection.execute(text("SELECT current_user()")).scalar() == "known@127.0.0.1"
    database.close()
    without = url_of(secure_mariadb, authority, pki, user="known").replace("/mysql?", "/information_schema?")
    assert "Access denied for user 'known'" in refusal(without)
    assert not is_in_tls(url_of(secure_mariadb, "ssl-mode=DISABLED", pki), "mariadb")


WRONG: Sequence[tuple[str, str, str, str]] = [
    ("postgres", "localhost", "sslmode=verify-full&sslrootcert={pki}/other.pem", "certificate verify failed"),
    ("postgres", "127.0.0.1", "sslmode=verify-full&sslrootcert={pki}/ca.pem", 'does not match host name "127.0.0.1"'),
    ("mariadb", "localhost", "ssl-mode=VERIFY_CA&ssl-ca={pki}/other.pem", "certificate verify failed"),
    ("mariadb", "127.0.0.1", "ssl-ca={pki}/ca.pem", "not valid for '127.0.0.1'"),
]


@pytest.mark.parametrize(("kind", "host", "parameters", "reason"), WRONG)
def test_another_authority_or_another_host(
    request: pytest.FixtureRequest, pki: Path, kind: str, host: str, parameters: str, reason: str
) -> None:
    assert reason in refusal(url_of(request.getfixturevalue(f"secure_{kind}"), parameters, pki, host=host))


@pytest.mark.parametrize(
    ("kind", "parameters", "reason"),
    [
        ("postgres", "sslmode=require", "server does not support SSL, but SSL was required"),
        ("mariadb", "ssl-mode=REQUIRED", "SSL is required but the server doesn't support it"),
    ],
)
def test_a_server_without_tls(
    request: pytest.FixtureRequest, pki: Path, kind: str, parameters: str, reason: str
) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    if isinstance(server, GivenServer):
        pytest.skip("a server that is given may have TLS")
    assert reason in refusal(url_of(server, parameters, pki, host="127.0.0.1"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://h/d?sslrootcert={pki}/none.pem", "sslrootcert: there is no file {pki}/none.pem"),
        ("postgresql://h/d?sslcert={pki}/none.pem", "sslcert: there is no file {pki}/none.pem"),
        ("mysql://h/d?ssl-ca={pki}/none.pem", "ssl-ca: there is no file {pki}/none.pem"),
        ("mysql://h/d?ssl_cert={pki}/none.pem", "ssl-cert: there is no file {pki}/none.pem"),
        ("mysql://h/d?ssl_ca={pki}/ca.key", "ssl-ca: there is no certificate in {pki}/ca.key"),
        ("mysql://h/d?ssl_cert={pki}/client.pem&ssl_key={pki}/ca.key", "ssl-cert, ssl-key: {pki}/client.pem and"),
        ("mysql://h/d?ssl-mode=SURE", "ssl-mode: 'SURE' is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA"),
        ("mysql://h/d?ssl=perhaps", "ssl: 'perhaps' is neither true nor false"),
        ("mysql://h/d?ssl-cipher=none", "ssl-cipher: 'none' is not known"),
    ],
)  # fmt: skip
def test_files_and_values_are_checked_before_anybody_is_asked(pki: Path, url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database(url.format(pki=pki))
    assert str(caught.value).startswith(f"batch.database_url: {reason.format(pki=pki)}")


def test_a_certificate_that_is_replaced_is_read_again(secure_mariadb: PrivateServer, pki: Path, tmp_path: Path) -> None:
    authority = Path(shutil.copy(pki / "other.pem", tmp_path / "ca.pem"))
    database = Database(url_of(secure_mariadb, f"ssl-ca={authority}", pki))
    with pytest.raises(DBAPIError, match="certificate verify failed"), database.read():
        pass
    shutil.copy(pki / "ca.pem", authority)
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    authority.unlink()
    database.engine.dispose()
    with pytest.raises(ConfigurationError, match="there is no certificate in"), database.read():
        pass
