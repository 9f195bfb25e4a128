"""What `requirements/serve.lock` puts into a Bento."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.settings import SOURCE

LOCK = SOURCE / "requirements" / "serve.lock"


def locked_versions(lock: Path = LOCK) -> dict[str, str]:
    """Version of every distribution that is installed from the lock on a machine like this one, by name."""
    found = {}
    for block in _blocks(lock):
        requirement = _requirement(block)
        (specifier,) = requirement.specifier
        found[canonicalize_name(requirement.name)] = specifier.version
    return dict(sorted(found.items()))


def locked_here(lock: Path = LOCK) -> str:
    """The lock without what a machine like this one does not install: one version of each distribution."""
    return "\n".join(line for block in _blocks(lock) for line in block) + "\n"


def _blocks(lock: Path) -> Iterator[list[str]]:
    """The lines of each requirement: the first names it, its hashes follow."""
    blocks: list[list[str]] = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line.startswith("    --hash"):
            blocks[-1].append(line)
        elif line and not line.startswith((" ", "#", "-")):
            blocks.append([line])
    for block in blocks:
        marker = _requirement(block).marker
        if marker is None or marker.evaluate():
            yield block


def _requirement(block: list[str]) -> Requirement:
    return Requirement(block[0].removesuffix("\\").strip())
