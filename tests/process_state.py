"""Undoing what a server process does to the interpreter that it runs in."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
from collections.abc import Iterator

from prometheus_client import REGISTRY, values

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOGGERS = ("", "serving", "bentoml", "uvicorn", "python_multipart")


@contextlib.contextmanager
def kept_logging() -> Iterator[None]:
    """Put back handlers and levels, so that pytest sees every record again."""
    before = [(name, logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in _LOGGERS]
    # Configuring logging closes every handler there is, and absl's (TensorFlow brings it) closes pytest's
    # standard error with it: here it finds none.
    handlers = logging._handlerList[:]
    logging._handlerList.clear()
    yield
    logging._handlerList[:0] = handlers
    for name, own, level in before:
        logger = logging.getLogger(name)
        logger.handlers[:] = own
        logger.setLevel(level)


@contextlib.contextmanager
def kept_signals() -> Iterator[None]:
    before = [(number, signal.getsignal(number)) for number in _SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@contextlib.contextmanager
def kept_collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@contextlib.contextmanager
def kept_metrics() -> Iterator[None]:
    """Forget the metrics that were registered meanwhile, and where they were kept."""
    before = set(REGISTRY._collector_to_names)
    directory, kind = os.environ.get("PROMETHEUS_MULTIPROC_DIR"), values.ValueClass
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    if directory is not None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = kind


@contextlib.contextmanager
def kept_process() -> Iterator[None]:
    """All of the above but the metrics, which have to last as long as the app."""
    with kept_logging(), kept_signals(), kept_collector():
        yield
