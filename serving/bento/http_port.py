"""The port that HTTP listens on."""

from __future__ import annotations

import errno
import socket

import click

from serving.bento.internals import BentoMLContainer, BentoMLException


def require_http_port() -> None:
    """Call it in the supervisor before it starts any process.

    BentoML would find out later, and end in a traceback. It does not tell a service what it listens on: this asks the
    command line of `bentoml serve`, and where there is none, it leaves the port to BentoML.

    Raises:
        BentoMLException: the port cannot be had; `bentoml serve` prints the message and ends.
    """
    command = click.get_current_context(silent=True)
    if command is None or "port" not in command.params:
        return
    host = command.params["host"] or BentoMLContainer.http.host.get()
    port = command.params["port"] or BentoMLContainer.http.port.get()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As BentoML's own socket: a port that a server has just left can be had.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
            raise BentoMLException(
                f"http: port {port} on {host} {what}; set another one with --port, or PORT= of make serve; "
                "a second server needs another SERVING__GRPC__PORT, too"
            ) from error
