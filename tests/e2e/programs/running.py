"""Runs the programs. What is not installed is a reason to skip, but not where everything has to be there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.packages import missing

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[2] / ".build"
NODE = BUILD / "programs"
"""Where `make test-programs` has installed package.json."""
OLDEST_NODE = 20
SECONDS = 120
Answers = dict[str, list[tuple[int, Any]]]
"""Status and body of what a program was answered, by the name of what it did."""


def installed(program: str, package: str) -> str:
    """The path of a program of this machine; `package` is Debian's name for it."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is not installed; Debian has it in {package}")
    return path


def node(*command: str | Path, **more: Any) -> str:
    """What Node says when it runs a file, or a command of a package that is installed."""
    program = installed("node", "nodejs")
    version = run(program, "--version").strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        missing(f"Node is {version}; the packages need {OLDEST_NODE}")
    if not (NODE / ".installed").exists():
        missing("the packages of Node are not installed; `make test-programs` does that")
    return run(program, *command, cwd=NODE, **more)


def python(peer: str) -> Path:
    """The directory of programs of an environment that has another server's client."""
    directory = BUILD / "peers" / peer / "bin"
    if not (directory.parent / ".installed").exists():
        missing(f"{peer} is not installed; `make test-programs` does that")
    return directory


def run(*command: str | Path, cwd: Path = HERE, accepted: Sequence[int] = (0,), **variables: str) -> str:
    """What a program prints; fails with all that it said when it ends in another way than `accepted`."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode in accepted, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def answers(printed: str) -> Answers:
    """Lines of a name, a status and a body with tabs between them."""
    read: Answers = defaultdict(list)
    for line in printed.splitlines():
        name, status, body = line.split("\t", 2)
        read[name].append((int(status), json.loads(body)))
    return dict(read)
