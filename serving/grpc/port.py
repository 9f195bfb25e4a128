"""The port that the API workers share.

Each worker listens on it by itself and the kernel deals out the connections (SO_REUSEPORT), so that a second server of
the same user would get some of them as well. The supervisor looks before it starts the workers.
"""

from __future__ import annotations

import errno
import socket

from serving.core.errors import ConfigurationError
from serving.settings.grpc import GrpcSettings

_held: list[socket.socket] = []


def address(host: str, port: int) -> str:
    """As gRPC writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reserve(settings: GrpcSettings) -> None:
    """Keep the port for the workers of this server, as long as this process, its supervisor, lives.

    Raises:
        ConfigurationError: somebody has the port already, or the address is none of ours.
    """
    host = settings.host or "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without SO_REUSEPORT a port that others listen on or hold is refused, theirs or not.
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, host, settings.port, listen=True)
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _bind(held, host, settings.port, listen=False)  # a socket that does not listen is given no connections
    _held.append(held)


def _bind(probe: socket.socket, host: str, port: int, *, listen: bool) -> None:
    try:
        probe.bind((host, port))
        if listen:
            probe.listen(1)
    except OSError as error:
        what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
        raise ConfigurationError(
            f"grpc: port {port} on {host} {what}; set SERVING__GRPC__PORT to another port, or "
            "SERVING__GRPC__ENABLED=false to serve HTTP only"
        ) from error
