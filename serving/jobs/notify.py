"""Telling the other processes of this host that something has changed, so that none has to look again and again.

Each notifier has a Unix datagram socket in a directory that belongs to the file they share; a process that changes
something sends one small datagram to every socket there. A datagram may be lost, where the queue of a receiver is
full or processes have different temporary directories: so who waits looks again by itself, after `longest_pause`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

_TOPIC_BYTES = 8
_DATAGRAM_BYTES = 500 * _TOPIC_BYTES
# Linux keeps ten datagrams for a receiver (net.unix.max_dgram_qlen) and refuses more: who finds nearly as many at once
# may have missed some.
_MANY = 8
_TRIES = 5
_PAUSE_SECONDS = 1.0
_PAUSE_WITHOUT_SOCKET_SECONDS = 0.05


def topic(kind: str, name: str) -> bytes:
    """What is sent about `name`: always 8 bytes. Two names with one topic only cause a needless wake-up."""
    return hashlib.blake2b(f"{kind}:{name}".encode("utf-8", "surrogatepass"), digest_size=_TOPIC_BYTES).digest()


class Notifier:
    """Wakes those who listen to a topic, in this process and in the others that name the same file.

    All methods but `publish` belong to the thread of the event loop in which `open` was called.
    """

    def __init__(self, file: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:16]
        self.directory = Path(tempfile.gettempdir()) / f"serving-jobs-{os.geteuid()}-{name}"
        self._own = self.directory / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: dict[bytes, set[asyncio.Event]] = {}

    @property
    def longest_pause(self) -> float:
        """Seconds after which who waits has to look again although nothing was heard."""
        return _PAUSE_SECONDS if self._socket else _PAUSE_WITHOUT_SOCKET_SECONDS

    def open(self) -> None:
        """Begin to receive. Where there can be no socket the log says so, and `longest_pause` is short."""
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        try:
            self._bind(receiver)
        except OSError as error:
            receiver.close()
            logger.warning(
                "no socket for notifications in %s (%s): waiting processes look for changes every %g s",
                self.directory,
                error,
                _PAUSE_WITHOUT_SOCKET_SECONDS,
            )
            return
        self._socket = receiver
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(receiver, self._receive, receiver)

    def close(self) -> None:
        """Receive nothing more; everybody who listens is woken."""
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._own.unlink(missing_ok=True)
            with suppress(OSError):  # others are there
                self.directory.rmdir()
        self._wake(list(self._listeners))

    @contextmanager
    def listening(self, about: bytes) -> Iterator[asyncio.Event]:
        """An event that is set whenever something is published about the topic, and without need now and then."""
        event = asyncio.Event()
        self._listeners.setdefault(about, set()).add(event)
        try:
            yield event
        finally:
            self._listeners[about].discard(event)
            if not self._listeners[about]:
                del self._listeners[about]

    def publish(self, topics: Iterable[bytes]) -> None:
        """Tell every process, this one too. Never blocks and never raises: what is published has happened already."""
        message = b"".join(dict.fromkeys(topics))
        receiver = self._socket
        if not message or receiver is None:
            return
        try:
            with os.scandir(self.directory) as found:
                addresses = [entry.path for entry in found]
        except OSError as error:
            logger.debug("no process could be notified: %s", error)
            return
        for start in range(0, len(message), _DATAGRAM_BYTES):
            for address in addresses:
                self._send(receiver, address, message[start : start + _DATAGRAM_BYTES])

    def _send(self, sender: socket.socket, address: str, message: bytes) -> None:
        try:
            sender.sendto(message, address)
        except ConnectionRefusedError:  # its process is gone
            Path(address).unlink(missing_ok=True)
        except OSError as error:  # its queue is full, it has just gone, or this notifier has just been closed
            logger.debug("%s could not be notified: %s", address, error)

    def _receive(self, receiver: socket.socket) -> None:
        topics: set[bytes] = set()
        datagrams = 0
        while True:
            try:
                message = receiver.recv(_DATAGRAM_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            datagrams += 1
            topics.update(message[start : start + _TOPIC_BYTES] for start in range(0, len(message), _TOPIC_BYTES))
        self._wake(list(self._listeners) if datagrams >= _MANY else topics)

    def _wake(self, topics: Iterable[bytes]) -> None:
        for about in topics:
            for event in self._listeners.get(about, ()):
                event.set()

    def _bind(self, receiver: socket.socket) -> None:
        for _ in range(_TRIES - 1):
            self._make_directory()
            with suppress(FileNotFoundError):  # the last of the others has closed, and taken the directory with it
                receiver.bind(str(self._own))
                return
        self._make_directory()
        receiver.bind(str(self._own))

    def _make_directory(self) -> None:
        """A directory that only this user can reach: otherwise others could read and send what is said here."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        found = self.directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"{self.directory} is not a directory of this user alone")
