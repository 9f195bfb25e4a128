"""A relay between a client and a server, which counts the connections."""

from __future__ import annotations

import socket
import threading
from typing import Self


class Relay:
    """`with Relay("127.0.0.1", port) as relay:` passes the bytes of each connection to `relay.address` on."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._open: list[socket.socket] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()
        for each in self._open:
            each.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections, as a server does that has waited long enough for the next request."""
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended
                continue

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # shut down
                return
            self.connections += 1
            server = socket.create_connection(self._server)
            self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=_copy, args=(source, sink))
                self._threads.append(thread)
                thread.start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65_536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one of both has ended
        return
