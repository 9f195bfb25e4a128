"""The URLs of a Redis: what `jobs.url` says, checked before anything is connected."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from serving.core.errors import ConfigurationError
from serving.jobs.redis_sentinel import MasterConnection, Sentinels, TlsMasterConnection

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
_SENTINEL_PORT = 26379
_OWN = "sentinel_"
_SENTINEL_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<user>[^@/?#]*@)?(?P<hosts>[^@/?#]+)/(?P<service>[^@/?#]+)"
    r"(?:/(?P<db>[0-9]*))?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]+))?")
# Not even a URL may have replies decoded; and the library would repeat what must not be. With a timeout of its own
# it writes by asyncio.wait_for, which in Python 3.11 loses a cancellation that comes when the write is done.
# Without the last two a user needs no right to CLIENT.
_OURS = {
    "decode_responses": False,
    "retry": Retry(NoBackoff(), 0),
    "socket_timeout": None,
    "driver_info": None,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True)
class Target:
    """Where Redis is.

    Attributes:
        address: for people, without user and password.
        options: of the connections, as redis-py names them.
        answer_seconds: most time for an answer.
        cluster: it is a Redis Cluster.
        sentinels: that know where it is.
    """

    address: str
    options: dict[str, Any] = field(repr=False)
    answer_seconds: float
    cluster: bool = False
    sentinels: Sentinels | None = None

    @property
    def tls(self) -> bool:
        return issubclass(self.options.get("connection_class", object), SSLConnection)


def target_of(url: str) -> Target:
    """What a URL names: `redis://`, `rediss://` or `unix://`, or these with the addresses of Sentinels:
    `redis+sentinel://[user:password@]host:port[,host:port]/service[/db]`, `rediss+sentinel://` with TLS to all.

    Options are those of redis-py. `cluster=true` is for a Redis Cluster, and what begins with `sentinel_` for the
    connections to the Sentinels.

    Raises:
        ConfigurationError: the URL is none, or names a file that cannot be used. The message does not repeat the URL.
    """
    try:
        if "+sentinel:" in url:
            target = _behind_sentinels(url)
        else:
            parts = urlsplit(url)
            # An unescaped / or # in a password makes something else of the rest: then the @ is found there.
            if "@" in f"{parts.path}{parts.fragment}" and parts.scheme != "unix":
                raise ValueError
            query = dict(parse_qsl(parts.query))
            cluster = query.pop("cluster", "false").lower() in ("true", "yes", "1")
            options = dict(parse_url(parts._replace(query=urlencode(query)).geturl()))
            target = Target(_address(options, parts.scheme), *_complete(options), cluster)
        _check_tls(target)
    except (ValueError, TypeError):
        # Without its cause: that may quote the password.
        raise ConfigurationError("jobs.url: Redis cannot be reached by it; escape / # ? @ in a password") from None
    return target


def _behind_sentinels(url: str) -> Target:
    parts = _SENTINEL_URL.fullmatch(url)
    if parts is None:
        raise ConfigurationError(
            "jobs.url: redis+sentinel://[user:password@]host:port[,host:port]/service[/db] is required"
        )
    scheme = parts["scheme"]
    addresses = [_host(each) for each in parts["hosts"].split(",")]
    query = dict(parse_qsl(parts["query"] or ""))
    own: dict[str, Any] = {name.removeprefix(_OWN): query.pop(name) for name in [*query] if name.startswith(_OWN)}
    options = dict(parse_url(f"{scheme}://{parts['user'] or ''}host/{parts['db'] or 0}?{urlencode(query)}"))
    shared = {name: value for name, value in options.items() if name.startswith(("ssl_", "socket_"))}
    own = shared | dict(parse_url(f"{scheme}://?{urlencode(own)}"))
    own.pop("connection_class", None)
    service = unquote(parts["service"])
    # Refuses unknown options now.
    sentinels = Sentinels(addresses, service, _complete(own)[0] | {"ssl": scheme == "rediss"})
    options["connection_class"] = TlsMasterConnection if scheme == "rediss" else MasterConnection
    options.pop("host")
    where = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
    return Target(
        f"{scheme}+sentinel://{where}/{service}/{options.get('db', 0)}",
        *_complete(options | {"sentinels": sentinels}),
        sentinels=sentinels,
    )


def _complete(options: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """With what we decide, and how long to wait for an answer."""
    seconds = float(options.get("socket_timeout") or ANSWER_SECONDS)
    return {"socket_connect_timeout": CONNECT_SECONDS} | options | _OURS, seconds


def _host(text: str) -> tuple[str, int]:
    parts = _HOST.fullmatch(text)
    if parts is None:
        raise ConfigurationError("jobs.url: a Sentinel is written as host:port")
    return parts["ipv6"] or parts["name"], int(parts["port"] or _SENTINEL_PORT)


def _address(options: dict[str, Any], scheme: str) -> str:
    if "path" in options:
        return f"{scheme}://{options['path']}"
    host = options.get("host", "localhost")
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _check_tls(target: Target) -> None:
    """Read the files now: in a connection's error nobody finds their names.

    Raises:
        ConfigurationError: one cannot be used.
    """
    options = {name: value for name, value in target.options.items() if name.startswith("ssl_")}
    if not target.tls:
        if options:
            raise ConfigurationError(f"jobs.url: {', '.join(options)}: only with TLS, that is rediss://")
        return
    for name in _FILES:
        if name in options and not os.access(options[name], os.R_OK):
            raise ConfigurationError(f"jobs.url: {name}: {options[name]} is not there or cannot be read")
    try:
        SSLConnection(**options).ssl_context.get()
    except (OSError, ssl.SSLError) as error:
        given = ", ".join(options[name] for name in _FILES if name in options)
        raise ConfigurationError(f"jobs.url: {given}: {getattr(error, 'reason', None) or error}") from None
    except RedisError as error:
        raise ConfigurationError("jobs.url: ssl_cert_reqs: required, optional or none is required") from error
