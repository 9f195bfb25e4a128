"""gRPC in a process that forks.

The library has threads and locks of its own. It survives a fork only while no thread is inside of it: else a call of
the child waits for ever, or the child crashes. So a fork waits for the calls that are under way, and new calls wait
for the fork. Where that is not enough the child is told so, and does not touch the library.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serving.client.answers import UnreachableError

_LONGEST_WAIT_SECONDS = 10.0
_ON = frozenset({"", "1", "true", "yes"})
_HINT = "use REST, start the process with the method 'spawn', or make its first gRPC call after the fork"


class _Gate:
    """Calls and forks, one after the other."""

    def __init__(self) -> None:
        self._used = False
        self._why_not = ""
        self._forks = 0
        self._changed = threading.Condition()  # of a lock that a thread may take twice
        self._calls: dict[object, int] = {}  # and their threads

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call that blocks. Raises UnreachableError in a process that must not use gRPC."""
        call = object()
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            if self._why_not:
                raise UnreachableError(f"gRPC cannot be used in this process: {self._why_not}; {_HINT}")
            self._used = True
            self._calls[call] = threading.get_ident()
        try:
            yield
        finally:
            with self._changed:
                self._calls.pop(call, None)  # in a child it is the parent's
                self._changed.notify_all()

    def before_fork(self) -> None:
        self._changed.acquire()
        self._forks += 1
        # A call of this thread does not end before the fork: a signal may have interrupted it.
        own = threading.get_ident()
        self._changed.wait_for(lambda: all(thread == own for thread in self._calls.values()), _LONGEST_WAIT_SECONDS)

    def after_fork_in_parent(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        if self._calls:
            self._why_not = "it was forked during a call of its parent"
        elif self._used and os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() not in _ON:
            self._why_not = "its parent has used gRPC, and GRPC_ENABLE_FORK_SUPPORT is off"
        self._used = False
        self._forks = 0
        self._changed = threading.Condition()
        self._calls = {}


GATE = _Gate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before_fork,
        after_in_parent=GATE.after_fork_in_parent,
        after_in_child=GATE.after_fork_in_child,
    )
