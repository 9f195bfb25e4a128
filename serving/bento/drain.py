"""From SIGTERM to the exit: what was accepted is finished first.

BentoML's supervisor signals all processes of a server at once. An API worker stops accepting and finishes
its requests (uvicorn does that); but a runner that did the same would be gone before the requests that still
need it. So a runner waits for the API workers to end. And the supervisor holds the listening socket until all
have ended, so that new connections would wait in its backlog for nobody; the API workers shut it down.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psutil

_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], object]


class Drain:
    """Takes over the stop signals of this process; `started` says whether one has come.

    What is in `on_start` is called in the event loop then.

    `wait_for` is polled after the signal; uvicorn is told to stop when it is true. After `limit_seconds`
    from the signal uvicorn is told to stop without waiting for requests any longer. `refuse` is polled after
    uvicorn has been told, until new connections are refused.
    """

    def __init__(
        self,
        *,
        limit_seconds: float,
        wait_for: Callable[[], bool] = lambda: True,
        refuse: Callable[[], bool] = lambda: True,
    ) -> None:
        self.started = False
        self.on_start: list[Callable[[], object]] = []
        self._limit_seconds = limit_seconds
        self._wait_for = wait_for
        self._refuse = refuse
        self._stopping: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Take over from the handlers that uvicorn installed; call it in the running loop's thread."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            server = signal.getsignal(number)
            if callable(server):
                signal.signal(number, self._handler(loop, server))

    def _handler(self, loop: asyncio.AbstractEventLoop, server: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            if self.started:
                return
            self.started = True
            if self._wait_for():
                server(number, frame)
            loop.call_soon_threadsafe(self._start, loop, server)

        return handle

    def _start(self, loop: asyncio.AbstractEventLoop, server: Handler) -> None:
        self._stopping = loop.create_task(self._stop(server))
        for callback in self.on_start:
            callback()

    async def _stop(self, server: Handler) -> None:
        try:
            async with asyncio.timeout(self._limit_seconds):
                while not self._wait_for():  # noqa: ASYNC110 - other processes end without an event here
                    await asyncio.sleep(_POLL_SECONDS)
                server(signal.SIGTERM, None)
                while not self._refuse():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
                await asyncio.Event().wait()  # uvicorn ends the loop, and this task with it
        except TimeoutError:
            server(signal.SIGTERM, None)
            server(signal.SIGINT, None)  # the second signal makes uvicorn drop what is still open


def api_workers_ended(service_name: str) -> Callable[[], bool]:
    """True once no sibling process serves `service_name` any more."""

    def ended() -> bool:
        return not _workers(service_name)

    return ended


def refuse_connections(service_name: str, descriptor: int, notes: Path) -> Callable[[], bool]:
    """Shuts the listening socket down once all workers of `service_name` drain, and is true then.

    One worker alone must not: it may have been signalled by itself, and its siblings accept on the same socket.
    `notes` is a directory of this server, in which each worker says that it drains.
    """
    # A copy of our own: uvicorn closes the descriptor when it stops.
    listener = socket.socket(fileno=os.dup(descriptor))

    def refuse() -> bool:
        (notes / f"draining-{os.getpid()}").touch()
        if not all((notes / f"draining-{process.pid}").exists() for process in _workers(service_name)):
            return False
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # a sibling was quicker
                raise
        return True

    return refuse


def _workers(service_name: str) -> list[psutil.Process]:
    """The processes of this server that serve `service_name`."""
    return [process for process in psutil.Process(os.getppid()).children() if _serves(process, service_name)]


def _serves(process: psutil.Process, service_name: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        arguments = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return "--service-name" in arguments and arguments[arguments.index("--service-name") + 1] == service_name
