"""Which errors mean that Redis cannot serve us now, and what each of them says to the person who runs it."""

from __future__ import annotations

import builtins
import re
from dataclasses import dataclass

from redis.exceptions import (
    ClusterError,
    ConnectionError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from serving.jobs.redis_common import Script

_AWAY = (
    ConnectionError,
    TimeoutError,
    builtins.TimeoutError,
    InvalidResponse,
    MovedError,
    ReadOnlyError,
    OutOfMemoryError,
    NoPermissionError,
    ClusterError,
    TryAgainError,
    RedisClusterException,
)
_CLOSED = re.compile("reset by peer|closed by server")
_CLIENT_CERTIFICATE = (
    "it closes the connection, and may want a client certificate that it trusts: ssl_certfile=FILE and "
    "ssl_keyfile=FILE in the URL"
)
# For a first connection. With TLS the server may have closed it before its reason was read.
_CLOSED_AT_ONCE = {
    False: "it closes the connection; if its port speaks TLS: rediss:// instead of redis://",
    True: _CLIENT_CERTIFICATE,
}
# Of an error: its code at the beginning, or in the middle, where Redis 6 puts the errors of a script's commands.
_CODED = r"(?:^|: -|^-){} "
# The first that is found in the text of an error says what it means. What is in brackets stands in the sentence.
_MEANINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (r"(no Sentinel knows where .*)", "{}"),
        (r"invalid username-password|WRONGPASS", "it refuses the user or the password (WRONGPASS)"),
        (
            r"already authenticated|authentication required|NOAUTH",
            "it wants a password, and the URL has none (NOAUTH)",
        ),
        (_CODED.format("MISCONF") + r"(.*?)\.? Commands", "it cannot save its data and takes no writes (MISCONF): {}"),
        (_CODED.format("MISCONF") + r"(.*)", "it cannot save its data and takes no writes (MISCONF): {}"),
        (
            _CODED.format("OOM") + "|when used memory > 'maxmemory'",
            "its memory is full, so it takes no more jobs (OOM): raise maxmemory",
        ),
        (
            _CODED.format("READONLY") + "|read only replica",
            "it is a replica, which takes no writes (READONLY): name its master, or its Sentinels by redis+sentinel://",
        ),
        (
            _CODED.format("NOREPLICAS") + "|not enough good replicas",
            "it has fewer replicas than its min-replicas-to-write, and takes no writes (NOREPLICAS)",
        ),
        (r"(fewer than \d+ replicas have .*)", "{}"),
        (_CODED.format("BUSY") + "|busy running a script", "it runs a long script of another client (BUSY)"),
        (_CODED.format("UNBLOCKED"), "it has become a replica (UNBLOCKED)"),
        (_CODED.format("DENIED"), "it serves its own host only (protected-mode): give it a password"),
        (r"loading the dataset", "it is loading its data (LOADING)"),
        (
            r"unknown command '?`?(HELLO)",
            "it does not know the command {}: Redis 6.0 or later is required",
        ),
        (
            r"unknown command '?`?(\w+)",
            "it does not know the command {}: it is a Sentinel, for which the URL has to be "
            "redis+sentinel://host:port/SERVICE, or its Redis has the command turned off",
        ),
        (r"cluster mode is not enabled", "it is no Redis Cluster: leave ?cluster=true out of the URL"),
        (r"DB index is out of range", "it has no database of this number"),
        (r"SELECT is not allowed in cluster mode", "a Redis Cluster has only database 0"),
        (r"hash slot not served", "the cluster has no node for our keys, or too few nodes are up"),
        (
            r"certificate verify failed: (.*?)\.?(?: \(_ssl.*)?$",
            "its certificate is not trusted ({}): ssl_ca_certs=FILE in the URL names the CA that has signed it",
        ),
        (
            r"alert certificate required|alert handshake failure|alert bad certificate|alert unknown ca",
            _CLIENT_CERTIFICATE,
        ),
        (
            r"wrong version number|record layer failure|packet length too long",
            "it does not speak TLS: redis:// instead of rediss://",
        ),
    )
)
# Redis 6 and 7.0, and later ones.
_DENIED_IN_SCRIPT = re.compile(r"user executing the script can't (.*?)(?: script: |$)|ACL failure in script: (.*)")
_LINE = re.compile(r"user_script:(\d+)")
_COMMAND = re.compile(r"redis\.p?call\('(\w+)'")


@dataclass(frozen=True)
class Trouble:
    """Why Redis does not serve us.

    Attributes:
        kind: the same for what is told once only.
        reason: for the log, without anything of a job.
        partial: other commands may be served meanwhile, such as reads while the memory is full.
    """

    kind: str
    reason: str
    partial: bool


def trouble_of(
    error: Exception, script: Script | None = None, *, prefix: str = "", tls: bool = False, first: bool = False
) -> Trouble | None:
    """What an error says of the server; `None` when it is we that asked for nonsense.

    Args:
        script: that was run; it tells which command a user has no right to.
        prefix: of the keys.
        tls: the URL asks for TLS.
        first: it has never served us.
    """
    partial = isinstance(error, ResponseError)
    if denied := _denied(error, script, prefix):
        return Trouble("NOPERM", denied, partial)
    if isinstance(error, (*_AWAY, ResponseError)):
        for pattern, meaning in _MEANINGS:
            if found := pattern.search(str(error)):
                return Trouble(meaning, meaning.format(*found.groups()), partial)
    unnamed = _unnamed(error, tls, first)
    return Trouble(unnamed, unnamed, partial) if unnamed else None


def is_read_only(error: Exception) -> bool:
    """Whether the server has become a replica: its name may mean another one by now."""
    return isinstance(error, ReadOnlyError) or "-READONLY " in str(error)


def _denied(error: Exception, script: Script | None, prefix: str) -> str:
    text = str(error)
    found = _DENIED_IN_SCRIPT.search(text)
    if found is None and not isinstance(error, NoPermissionError):
        return ""
    denied = text
    if found is not None:
        denied = (found[1] or found[2]).partition(" script: ")[0]
        line = _LINE.search(text)
        command = script and line and _COMMAND.search(script.text.splitlines()[int(line[1]) - 1])
        if command:  # Redis 7.0 and earlier do not tell
            denied = f"{denied.rstrip('.')} ({command[1]})"
    return (
        f"the user may not do what is needed (NOPERM): {denied.rstrip('.')}; docs/jobs.md has the rights, for {prefix}*"
    )


def _unnamed(error: Exception, tls: bool, first: bool) -> str:
    """What has no text that is the same everywhere."""
    if isinstance(error, MovedError):
        return "it is a node of a Redis Cluster (MOVED): add ?cluster=true to the URL"
    if isinstance(error, InvalidResponse):
        return "what answers there is no Redis"
    if isinstance(error, TimeoutError | builtins.TimeoutError):
        hint = "; does its port speak TLS? If not, redis:// instead of rediss://" if tls else ""
        return f"it does not answer{hint}"
    if first and isinstance(error, ConnectionError) and _CLOSED.search(str(error)):
        return _CLOSED_AT_ONCE[tls]
    return str(error) or type(error).__name__ if isinstance(error, _AWAY) else ""
