"""The URL of a database of rows, with parameters as each database's own tools write them."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from serving.core.errors import ConfigurationError

Kind = Literal["sqlite", "mysql", "postgresql"]
_DRIVERS: dict[str, tuple[Kind, str]] = {
    "sqlite": ("sqlite", "sqlite"),
    "mysql": ("mysql", "mysql+pymysql"),
    "mariadb": ("mysql", "mysql+pymysql"),
    "postgres": ("postgresql", "postgresql+psycopg"),
    "postgresql": ("postgresql", "postgresql+psycopg"),
}
_SETTING = "batch.database_url"
_SEVERAL_HOSTS = re.compile(r"(postgres[^:]*://(?:[^@/?]*@)?)([^/?@,]*,[^/?@]*)(.*)", re.DOTALL)
_POSTGRESQL_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_MYSQL_FILES = ("ssl-ca", "ssl-cert", "ssl-key")
_MYSQL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
# As `mysql` and `mariadb` have them on the command line, then those of PyMySQL and SQLAlchemy.
_MYSQL_PARAMETERS = (
    *("ssl-mode", *_MYSQL_FILES, "ssl-capath", "ssl-cipher", "ssl", "ssl-verify-server-cert", "socket"),
    *("ssl-verify-cert", "ssl-verify-identity", "ssl-check-hostname", "ssl-disabled", "ssl-key-password"),
    *("unix-socket", "connect-timeout", "charset"),
)
_SWITCH = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}


def read_url(url: str) -> tuple[URL, Kind]:
    """The URL with the driver that is used, and with no parameter that is unknown.

    Raises:
        ConfigurationError: the URL cannot be used; the message does not have its password.
    """
    hosts: list[str] = []
    if several := _SEVERAL_HOSTS.fullmatch(url):
        hosts = several[2].split(",")
        url = several[1] + several[3]
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        # Not from the error: its text has the URL, and that may have a password.
        raise _wrong("not a URL of a database") from None
    name, _, driver = read.drivername.partition("+")
    if name not in _DRIVERS or driver not in ("", _DRIVERS[name][1].partition("+")[2]):
        raise _wrong(f"{read.drivername}:// is not known; use sqlite:///, postgresql:// or mysql://")
    kind, drivername = _DRIVERS[name]
    read = read.set(drivername=drivername).update_query_pairs(("host", host) for host in hosts)
    if kind == "sqlite":
        _check_sqlite(read)
    elif not read.database:
        raise _wrong("the name of the database is missing")
    elif "@" in (read.host or ""):
        raise _wrong("an @ in the name or the password of the user is written as %40")
    elif kind == "postgresql":
        _check_postgresql(read)
    else:
        _check_mysql(read)
    return read, kind


def shown(url: URL) -> str:
    """The URL without secrets."""
    hosts = {name: value for name, value in url.query.items() if name in ("host", "unix_socket")}
    return url.set(query=hosts).render_as_string(hide_password=True)


def driver_url(url: URL, kind: Kind) -> URL:
    """What SQLAlchemy makes a connection of, beside `mysql_arguments`."""
    if kind == "mysql":
        return url.set(query={})
    if kind == "postgresql" and url.host:
        return url.set(host=unquote(url.host))  # the directory of a socket
    return url


def mysql_arguments(url: URL) -> dict[str, Any]:
    """What the driver gets by the parameters of the URL: its socket and its TLS."""
    given = _mysql_parameters(url)
    found: dict[str, Any] = {}
    host = unquote(url.host or "")
    socket = given.get("socket") or given.get("unix-socket") or (host if host.startswith("/") else None)
    if socket is not None:
        found["unix_socket"] = socket
    if "connect-timeout" in given:
        found["connect_timeout"] = int(given["connect-timeout"])
    mode = _mysql_mode(given)
    if mode == "DISABLED":
        found["ssl_disabled"] = True
    elif mode != "PREFERRED":
        found["ssl"] = _tls(mode, given)
    return found


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(f"{_SETTING}: {message}")


def _check_sqlite(url: URL) -> None:
    if url.host or not url.database or url.database == ":memory:" or "mode" in url.query:
        raise _wrong("sqlite:/// needs the name of a file, after three slashes; an absolute one begins with a fourth")
    _require_known("sqlite:///", url.query, ())


def _check_postgresql(url: URL) -> None:
    import psycopg

    _require_known("postgresql://", url.query, [each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults()])
    for name in _POSTGRESQL_FILES:
        value = url.query.get(name)
        if isinstance(value, str) and value and (name, value) != ("sslrootcert", "system"):
            _require_file(name, value)


def _check_mysql(url: URL) -> None:
    given = _mysql_parameters(url)
    for name in _MYSQL_FILES:
        if name in given:
            _require_file(name, given[name])
    if not given.get("charset", "utf8mb4").lower().startswith("utf8"):
        raise _wrong("charset: rows are written as utf8mb4")
    if not given.get("connect-timeout", "1").isdecimal():
        raise _wrong("connect-timeout: not a number of seconds")
    mysql_arguments(url)


def _mysql_parameters(url: URL) -> dict[str, str]:
    """The parameters by the names of the command line: `ssl_ca`, `sslCa` and `ssl-ca` are the same."""
    names = {name.replace("-", ""): name for name in _MYSQL_PARAMETERS}
    found: dict[str, str] = {}
    for name, value in url.query.items():
        known = names.get(re.sub("[-_]", "", name.lower()), name)
        if known in found or not isinstance(value, str):
            raise _wrong(f"{known} is given twice")
        found[known] = value
    _require_known("mysql://", found, _MYSQL_PARAMETERS)
    return found


def _mysql_mode(given: Mapping[str, str]) -> str:
    """How much TLS; the identity of the server is verified where a CA is given and nothing else is said."""
    if "ssl-mode" in given:
        mode = given["ssl-mode"].upper()
        if mode not in _MYSQL_MODES:
            raise _wrong(f"ssl-mode: {given['ssl-mode']!r} is none of {', '.join(_MYSQL_MODES)}")
        return mode
    switches = {name: _switch(name, given[name]) for name in given if name in _MYSQL_SWITCHES}
    if switches.get("ssl-disabled") or switches.get("ssl") is False:
        return "DISABLED"
    authority = "ssl-ca" in given or "ssl-capath" in given
    verified = switches.get("ssl-verify-server-cert", switches.get("ssl-verify-identity"))
    if verified is None and authority and "ssl-verify-cert" not in switches:
        verified = switches.get("ssl-check-hostname", True)
    if verified:
        return "VERIFY_IDENTITY"
    if switches.get("ssl-verify-cert", authority and "ssl-verify-server-cert" not in switches):
        return "VERIFY_CA"
    return "REQUIRED" if any(name.startswith("ssl") for name in given) else "PREFERRED"


_MYSQL_SWITCHES = (
    *("ssl", "ssl-verify-server-cert", "ssl-verify-cert"),
    *("ssl-verify-identity", "ssl-check-hostname", "ssl-disabled"),
)


def _switch(name: str, value: str) -> bool:
    if value.lower() not in _SWITCH:
        raise _wrong(f"{name}: {value!r} is neither true nor false")
    return _SWITCH[value.lower()]


def _tls(mode: str, given: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("ssl-ca"), capath=given.get("ssl-capath"))
    except (ssl.SSLError, OSError):
        raise _wrong(f"ssl-ca: there is no certificate in {given.get('ssl-ca') or given.get('ssl-capath')}") from None
    # A CA made by the server itself lacks what Python asks of one from 3.13 on.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = mode == "VERIFY_IDENTITY"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("VERIFY") else ssl.CERT_NONE
    if "ssl-cert" in given or "ssl-key" in given:
        certificate = given.get("ssl-cert", given.get("ssl-key", ""))
        try:
            context.load_cert_chain(certificate, given.get("ssl-key"), given.get("ssl-key-password", ""))
        except (ssl.SSLError, OSError) as error:
            raise _wrong(f"ssl-cert, ssl-key: {certificate} and its key cannot be used: {error}") from None
    if "ssl-cipher" in given:
        try:
            context.set_ciphers(given["ssl-cipher"])
        except ssl.SSLError:
            raise _wrong(f"ssl-cipher: {given['ssl-cipher']!r} is not known") from None
    return context


def _require_known(scheme: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            listed = f"known: {', '.join(known)}" if known else "there are none"
            raise _wrong(f"{name!r} is no parameter of {scheme}; {listed}")


def _require_file(name: str, value: str) -> None:
    if not Path(value).is_file():
        raise _wrong(f"{name}: there is no file {value}")
    if not os.access(value, os.R_OK):
        raise _wrong(f"{name}: this user may not read {value}")
