"""Programs that the checks of deploy/ use where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.jobs.redis_server import NO_SKIPS_VARIABLE

SECONDS = 60


def need(program: str) -> str:
    """Where `program` is; skips the test when it is not, or fails it where CI forbids that."""
    found = shutil.which(program)
    if found is None:
        reason = f"no {program} on PATH"
        if os.environ.get(NO_SKIPS_VARIABLE):
            pytest.fail(f"{reason}; {NO_SKIPS_VARIABLE} is set")
        pytest.skip(reason)
    return found


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Its standard output; an exit status other than 0 fails the test."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout
