"""Running the shell blocks of README.md and docs/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.normalised import normalised, same
from tests.docs.readme import HOST, ROOT, Block

GRPC_HOST = "localhost:8500"


def make_workspace(directory: Path) -> Path:
    """A directory that looks like the root of the repository; what commands write there stays out of the real one."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (directory / entry.name).symlink_to(entry)
    link_environment(directory)
    return directory


def link_environment(directory: Path) -> None:
    """The environment that runs the tests as `.venv`, whatever its name is."""
    (directory / ".venv").symlink_to(sys.prefix)


def run(block: Block, directory: Path, *, host: str, grpc: str = "", **environment: str) -> str:
    """Run a block with bash as it stands, with the test server in the place of `localhost:3000`; its output.

    For commands that use gRPC, `grpc` is put in the place of `localhost:8500`.

    Fails when a command fails, or when the page shows another output.
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text.replace(HOST, host).replace(GRPC_HOST, grpc or GRPC_HOST)],
        cwd=directory,
        env=os.environ | {"SERVING_URL": f"http://{host}"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    if done.returncode:
        pytest.fail(f"{block.name}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    if block.output is not None and not same(done.stdout, block.output):
        pytest.fail(f"{block.name}: the output is\n{normalised(done.stdout)}\nthe page has\n{normalised(block.output)}")
    return done.stdout
