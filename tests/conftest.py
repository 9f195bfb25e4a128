"""What all tests have: a model store and jobs of their own, a server, and an order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.model_store import HOME, fill
from tests.server import Server, serving

pytest_plugins = ["tests.distribution"]

# Who runs in the background of a shell ignores interrupts, and with it all processes that it starts; those of the tests
# are to be interrupted. Python's own handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before anything imports bentoml, which reads it once.
os.environ["BENTOML_HOME"] = str(HOME)
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
for name in [name for name in os.environ if name.startswith("SERVING__")]:
    del os.environ[name]
# Jobs of their own for the service that runs in this process, which reads its settings when it is imported.
_jobs = TemporaryDirectory(prefix="jobs-")
os.environ["SERVING__JOBS__URL"] = f"sqlite:///{_jobs.name}/jobs.db"
os.environ["SERVING__JOBS__EMBEDDED_WORKER"] = "false"
# One machine has port 8500 only once.
os.environ["SERVING__GRPC__ENABLED"] = "false"


def pytest_unconfigure() -> None:
    _jobs.cleanup()


@pytest.fixture(scope="session")
def model_store() -> Path:
    """BENTOML_HOME with `iris`, `inception_v3` and `inception_v3_savedmodel` (random weights, seed 0)."""
    return fill()


@pytest.fixture(scope="session")
def server(model_store: Path) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    """One server with two API workers and one for jobs, for the tests that leave it as it was."""
    settings = {"SERVING__LOGGING__FORMAT": "json", "SERVING__JOBS__EMBEDDED_WORKER": "true"}
    with serving(SERVING__SERVER__WORKERS="2", SERVING__GRPC__ENABLED="true", **settings) as running:
        yield running
