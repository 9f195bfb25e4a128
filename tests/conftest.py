"""A model store of the tests' own, with both models trained once.

The store is kept in `.build/` and made anew when the training code or the locked libraries change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.server import Server, serving

ROOT = Path(__file__).resolve().parent.parent


def _fingerprint() -> str:
    sources = [*sorted((ROOT / "train").glob("*.py")), ROOT / "serving/models.py", ROOT / "requirements/dev.lock"]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


HOME = ROOT / ".build" / f"bentoml-{_fingerprint()}"

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
    HOME.mkdir(parents=True, exist_ok=True)
    # Two test runs at once would otherwise both find it empty and train.
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _train_what_is_missing()
    return HOME


@pytest.fixture(scope="session")
def server(model_store: Path) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    """One server with two API workers and one for jobs, for the tests that leave it as it was."""
    settings = {"SERVING__LOGGING__FORMAT": "json", "SERVING__JOBS__EMBEDDED_WORKER": "true"}
    with serving(SERVING__SERVING__WORKERS="2", SERVING__GRPC__ENABLED="true", **settings) as running:
        yield running


def _train_what_is_missing() -> None:
    subprocess.run([sys.executable, "-m", "train", "--weights", "random", "--quiet"], cwd=ROOT, check=True, timeout=400)
