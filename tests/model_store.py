"""The model store of the tests, with both models trained once. `python -m tests.model_store` fills it.

It is kept in `.build/` and made anew when the training code or the locked libraries change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 400
_TRAIN = [sys.executable, "-m", "train", "--weights", "random", "--quiet"]


def _fingerprint() -> str:
    stored = [ROOT / "serving/store" / name for name in ("bentoml_store.py", "models.py", "saving.py")]
    sources = [*sorted((ROOT / "train").glob("*.py")), *stored, ROOT / "requirements/dev.lock"]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


HOME = ROOT / ".build" / f"bentoml-{_fingerprint()}"
# Until the next change of the above there is nothing to look for, which would take some seconds.
_FILLED = HOME / "filled"


def _lock() -> int:
    """Wait until nobody else fills the store; the lock is held until the descriptor is closed, by whoever has it."""
    HOME.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(HOME / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def fill() -> Path:
    """Train what is missing, unless another process does: then wait for it. BENTOML_HOME of the full store."""
    if not _FILLED.exists():
        descriptor = _lock()
        try:
            if not _FILLED.exists():
                subprocess.run(_TRAIN, cwd=ROOT, check=True, timeout=SECONDS)
                _FILLED.touch()
        finally:
            os.close(descriptor)
    return HOME


def begin_to_fill() -> subprocess.Popen[bytes] | None:
    """Fill it in another process, while tests that do not need it run; whoever needs it waits in `fill`."""
    if _FILLED.exists():
        return None
    # What it has to say is said again by whoever needs it.
    return subprocess.Popen(
        [sys.executable, "-m", "tests.model_store"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    # The lock goes over to the training, and is free when that ends, however it ends.
    os.set_inheritable(_lock(), True)
    os.execv(sys.executable, _TRAIN)  # noqa: S606 - no shell is wanted
