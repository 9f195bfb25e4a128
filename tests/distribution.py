"""Which tests run in one process, and in which order: with `pytest -n 2 --dist loadfile`, and the order without, too.

A file of tests stays in one process, with its servers. Files that share something dear do so in one process, and what
takes long is not left to the end, where it would run alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.model_store import begin_to_fill

TOGETHER = {
    # the fixture `server`, a real one with seven processes
    "server": (
        "tests/batch/test_crashes.py",
        "tests/deploy/test_dashboard.py",
        "tests/docs/test_commands.py",
        "tests/docs/test_pages.py",
        "tests/docs/test_reference.py",
        "tests/e2e/test_clients.py",
        "tests/e2e/test_errors.py",
        "tests/e2e/test_grpc.py",
        "tests/e2e/test_observability.py",
        "tests/e2e/test_predict.py",
        "tests/e2e/test_predictions.py",
        "tests/e2e/programs/test_languages.py",
        "tests/e2e/programs/test_openapi_tools.py",
        "tests/e2e/programs/test_protocol_clients.py",
        "tests/e2e/test_protocols_rest.py",
        "tests/e2e/test_proxies.py",
        "tests/e2e/test_wire.py",
        "tests/field/test_requests.py",
        "tests/test_inventory.py",
    ),
    # TensorFlow, whose import takes seconds
    "keras": (
        "tests/codecs/test_image_decoding.py",
        "tests/train/test_finished_models.py",
        "tests/train/test_inception_v3.py",
        "tests/train/test_keras_weights.py",
        "tests/train/test_tensorflow_export.py",
    ),
}
_GROUPS = {file: group for group, files in TOGETHER.items() for file in files}
# What mostly waits comes first, so that something else computes meanwhile; many quick files last, so that all processes
# end at about the same time.
_FIRST = ("tests/faults/", "tests/jobs/")
_LAST = ("tests/http/", "tests/benchmarks/", "tests/core/", "tests/client/", "tests/commands/", "tests/test_")


def group(test: str) -> str:
    """The name of all tests that run in the process of this one, given by its id."""
    file = test.partition("::")[0]
    return _GROUPS.get(file, file)


def _rank(test: str) -> int:
    return test.startswith(_LAST) - test.startswith(_FIRST)


def in_order(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Groups without tests that need the model store first: it may have to be filled."""
    items = list(items)
    waiting = {group(item.nodeid) for item in items if "model_store" in getattr(item, "fixturenames", ())}
    ranks: dict[str, int] = {}
    for item in items:
        name = group(item.nodeid)
        ranks[name] = min(_rank(item.nodeid), ranks.get(name, 1))
    return sorted(items, key=lambda item: (group(item.nodeid) in waiting, ranks[group(item.nodeid)]))


class GroupScheduling(LoadFileScheduling):
    """As `--dist loadfile`, but for groups of files."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    return GroupScheduling(config, log) if config.option.dist == "loadfile" else None


class Filling:
    """Fills the model store from the beginning of a run in several processes; lives in the one that distributes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if session.config.pluginmanager.hasplugin("dsession"):
            self._process = begin_to_fill()

    def pytest_sessionfinish(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Filling())
