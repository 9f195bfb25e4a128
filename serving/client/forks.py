"""Connections of a process that forks: each process has its own.

A child that used the sockets of its parent would read the answers to the parent's requests.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Something that each process makes for itself when it needs it first. May be shared by threads.

    Args:
        keep: whether a child keeps what it inherits untouched; else it closes its descriptors of the sockets, which
            the parent does not notice.
    """

    def __init__(self, make: Callable[[], T], *, keep: bool = False) -> None:
        self._make = make
        self._keep = keep
        self._made: T | None = None
        self._closed = False
        self._lock = threading.Lock()
        _all.add(self)

    def get(self) -> T:
        """Raises RuntimeError once it has been taken away."""
        made = self._made
        if made is None:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the client has been closed")
                made = self._made = self._make() if self._made is None else self._made
        return made

    def take(self) -> T | None:
        """What this process has made, to be closed; `None` if it has made nothing."""
        with self._lock:
            self._closed = True
            made, self._made = self._made, None
        return made

    def forget(self) -> None:
        """In a child: leave the parent's alone. Closing it could say goodbye to the server in the parent's name."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if self._keep:
            _kept.append(self._made)
        self._made = None


_all: WeakSet[PerProcess[Any]] = WeakSet()
_kept: list[object] = []


def _forget_all() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for each in _all:
            each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
