"""The peers' own environments, which `make bench-peers` makes: one for each `benchmarks/peers/<name>.lock`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.server import ROOT, Server

DIRECTORY = ROOT / ".build" / "peers"
NAMES = tuple(sorted(path.stem for path in (ROOT / "benchmarks" / "peers").glob("*.in")))


def program(environment: str, name: str) -> Path:
    """A command of an environment, whether it is there or not."""
    return DIRECTORY / environment / "bin" / name


def installed(environment: str) -> bool:
    """Whether the installation was finished."""
    return (DIRECTORY / environment / ".installed").is_file()


def directories() -> dict[str, Path]:
    """The environments that are there, by name."""
    return {name: DIRECTORY / name for name in NAMES if installed(name)}


def available(servers: list[Server]) -> tuple[list[Server], list[str]]:
    """The servers that can be started here, and a line about each of the others."""
    here = [server for server in servers if not server.peer or installed(server.peer)]
    left_out = [
        f"left out: `{server.name}`, whose environment {server.peer!r} is not installed (`make bench-peers`)"
        for server in servers
        if server not in here
    ]
    return here, left_out
