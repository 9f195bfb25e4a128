"""A base image where no registry can be reached: Debian and its Python, made here, and wheels fetched beforehand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from tests.image.podman import podman

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build/image"
NAME = "localhost/python-stand-in:bookworm"
_SUITE = "bookworm"
# As Debian's and Python's own slim images: no manuals, no translations, no lists of packages.
_LEFT_OUT = ("doc", "man", "locale", "info")


def make_base_image() -> str:
    """The name of the image; the Debian below it is made once."""
    if shutil.which("mmdebstrap") is None:
        raise AssertionError("no registry can be reached, and there is no mmdebstrap to make a base image with")
    tar = BUILD / f"{_SUITE}.tar"
    if not tar.exists():
        partial = tar.with_suffix(".partial.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase"]
        command += ["--include=python3,python3-venv,ca-certificates,usr-is-merged"]
        command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
        command += ['--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*']
        subprocess.run([*command, _SUITE, partial], check=True)
        partial.rename(tar)
    podman("import", "--quiet", str(tar), NAME)
    return NAME


def fetch_wheels(python: str) -> Path:
    """A directory with every wheel of the image's locks, checked against their hashes.

    Args:
        python: the version of the image's Python; markers are judged by it.
    """
    wheels = BUILD / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for name in ("serve", "uv"):
        wanted = BUILD / f"{name}.lock"
        wanted.write_text(_for_python((ROOT / f"requirements/{name}.lock").read_text(), python))
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--require-hashes", "--only-binary=:all:", "--find-links", str(wheels), "--dest", str(wheels)]
        subprocess.run([*pip, "--requirement", wanted], check=True)
    return wheels


def _for_python(lock: str, python: str) -> str:
    """The lock with what a machine with that Python installs, and no markers: pip would judge them by its own."""
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    kept: list[str] = []
    keep = False
    for line in lock.splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            keep = requirement.marker is None or requirement.marker.evaluate(environment)
            requirement.marker = None
            line = f"{requirement} \\"  # noqa: PLW2901 - the same line without its marker
        if keep and not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"
