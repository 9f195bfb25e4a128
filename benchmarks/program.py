"""Running a load generator that is a program of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import REQUEST_TIMEOUT, Load, LoadError


def run_program(command: list[str], load: Load, environment: Mapping[str, str] | None = None) -> str:
    """The standard output of `command`, which takes about `load.seconds`.

    Raises:
        LoadError: it does not exist, ended with another code than 0, or was still running long after its time.
    """
    limit = load.seconds + REQUEST_TIMEOUT + 10
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{command[0]} was still running after {limit:.0f} s") from error
    except OSError as error:
        raise LoadError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise LoadError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


@contextmanager
def body_file(load: Load) -> Iterator[Path]:
    """The body of the load as a file: image bodies do not fit on a command line."""
    with tempfile.TemporaryDirectory(prefix="load-") as directory:
        path = Path(directory) / "body"
        path.write_bytes(load.body)
        yield path
