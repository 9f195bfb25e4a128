"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.server import ROOT

LIBRARIES = (
    *("bentoml", "onnxruntime", "numpy", "pydantic", "fastapi", "starlette", "uvicorn", "uvloop", "httptools"),
    *("msgspec", "orjson", "gunicorn", "uvicorn-worker", "pillow", "openvino", "litserve", "mlserver", "ray"),
)


def describe(command: str, generator: str, peers: Mapping[str, Path]) -> list[str]:
    """Lines of Markdown: machine, system, libraries of all environments, commit, command, date, load before."""
    memory = psutil.virtual_memory().total / 2**30
    lines = [
        f"command: `{command}`, commit {_commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"machine: {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; "
        f"load average of the minute before: {os.getloadavg()[0]:.2f}",
        f"system: {_system()}, {platform.python_implementation()} {platform.python_version()}",
        f"load generator: {generator}, on the same machine",
        f"libraries: {_join(_versions(None))}",
    ]
    for name, environment in peers.items():
        others = _different(_versions(None), _versions(environment))
        if others:
            lines.append(f"libraries of the peers in `{name}`, where different: {_join(others)}")
    switches = sorted(f"`{name}={value}`" for name, value in os.environ.items() if name.startswith("SERVING__"))
    if switches:
        lines.append(f"settings from the environment: {', '.join(switches)}")
    return lines


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return f"{value.strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}"


def _versions(environment: Path | None) -> dict[str, str]:
    """Installed versions of `LIBRARIES`: here, or in another environment."""
    distributions: Iterable[importlib.metadata.Distribution]
    if environment is None:
        distributions = importlib.metadata.distributions()
    else:
        paths = [str(path) for path in environment.glob("lib/python*/site-packages")]
        distributions = importlib.metadata.distributions(path=paths)
    found = {
        distribution.metadata["Name"].lower().replace("_", "-"): distribution.version for distribution in distributions
    }
    return {name: found[name] for name in LIBRARIES if name in found}


def _different(here: dict[str, str], there: dict[str, str]) -> dict[str, str]:
    return {name: version for name, version in there.items() if here.get(name) != version}


def _join(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def said(*arguments: str) -> str:
        done = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = said("rev-parse", "--short", "HEAD")
    # the results themselves change while measuring
    changed = said("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/RESULTS.md")
    return (commit or "unknown") + (" with local changes" if changed else "")
