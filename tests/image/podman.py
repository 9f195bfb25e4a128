"""podman with a storage of the tests' own below .build/, and with the options that this machine needs."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STORAGE = ROOT / ".build/image/storage"
# Of a sandbox that may not raise limits: lower ones than podman's defaults.
_LIMITS = [[], ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]]


def use_own_storage() -> None:
    """For this process and those that it starts: `bentoml containerize` finds the same images."""
    STORAGE.mkdir(parents=True, exist_ok=True)
    configuration = STORAGE.parent / "storage.conf"
    lines = ["[storage]", 'driver = "overlay"', f'graphroot = "{STORAGE}"', f'runroot = "{STORAGE.parent}/run"']
    configuration.write_text("\n".join(lines) + "\n")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(configuration)


def remove_storage() -> None:
    """Everything that the tests have built; by podman, as its layers belong to several users."""
    subprocess.run(["podman", "system", "reset", "--force"], capture_output=True, check=False)
    shutil.rmtree(STORAGE, ignore_errors=True)
    shutil.rmtree(STORAGE.parent / "run", ignore_errors=True)


def podman(*arguments: str, timeout: float = 300) -> str:
    """Standard output; an error of podman fails the test with what it says."""
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("inspect", name))[0]
    return found


@cache
def run_options(image: str) -> tuple[list[str], list[str]]:
    """Global and `run` options with which this machine starts a container that has a limit of memory.

    Not every kernel, sandbox and version of a runtime go together; which do is tried out.
    """
    runtimes = [[], *([f"--runtime={path}"] for name in ("crun", "runc") if (path := shutil.which(name)))]
    said = ""
    for runtime, limits in itertools.product(runtimes, _LIMITS):
        done = subprocess.run(
            ["podman", *runtime, "run", "--rm", *limits, "--network=host", "--memory=256m", image, "true"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode == 0:
            return runtime, limits
        said += f"{' '.join(runtime + limits)}: {done.stderr}"
    raise AssertionError(f"podman cannot run a container with a limit of memory here:\n{said}")
