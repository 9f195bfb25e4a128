"""What `requirements/serve.lock` puts into a Bento."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

from serving.inventory import SOURCE, canonical

LOCK = SOURCE / "requirements" / "serve.lock"


def locked_versions(lock: Path = LOCK) -> dict[str, str]:
    """Version of every distribution that is installed from the lock on a machine like this one, by name."""
    found = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#", "-")):
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                (specifier,) = requirement.specifier
                found[canonical(requirement.name)] = specifier.version
    return dict(sorted(found.items()))
