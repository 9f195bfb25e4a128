"""`python -m deploy.image` (`make image`): build the image of a Bento, and its bill of materials beside it.

`bentoml containerize` builds it with docker, podman or buildah; here is what that needs to be told.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.bento import ROOT, BuildError, build
from serving.core.errors import ConfigurationError, ModelError
from serving.store.lockfile import locked_here

BIN = Path(sys.executable).parent
ENGINES = ("docker", "podman", "buildah")
DIRECTORY = ROOT / ".build/image"


def find_engine() -> str:
    """The first engine that is installed and, as docker needs a daemon, answers.

    Raises:
        BuildError: there is none.
    """
    for engine in ENGINES:
        if shutil.which(engine) and _runs([engine, "info"]):
            return engine
    raise BuildError(f"no container engine: install one of {', '.join(ENGINES)}")


def _runs(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def containerize(bento: str, *, engine: str, options: Sequence[str] = ()) -> str:
    """Build the image of a Bento and return its name, `model-serving:<version of the Bento>`.

    Args:
        options: `NAME=VALUE`, as `bentoml containerize --opt` takes them.

    Raises:
        BuildError: it cannot be built; standard error has said why.
    """
    image = f"model-serving:{bento.partition(':')[2]}"
    command = [str(BIN / "bentoml"), "containerize", bento, "--backend", engine, "--image-tag", image]
    for option in options:
        command += ["--opt", option]
    temporary = _temporary()
    # BentoML reads the template from a temporary copy, and only below the directory that it runs in. The OCI format
    # has no HEALTHCHECK, which buildah and podman would leave out.
    environment = os.environ | {"TMPDIR": str(temporary), "BUILDAH_FORMAT": "docker"}
    done = subprocess.run(
        command,
        cwd=temporary.anchor,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        check=False,
    )
    if done.returncode or "Successfully built" not in done.stdout:
        raise BuildError(f"{engine} has not built {image}")
    return image


def _temporary() -> Path:
    """A directory for temporary files without a hidden one in its path, which BentoML refuses."""
    given = Path(os.environ.get("TMPDIR", "/tmp")).resolve()  # noqa: S108 - what it stands for is asked first
    return Path("/tmp") if any(part.startswith(".") for part in given.parts) else given  # noqa: S108


def write_sbom(version: str, directory: Path = DIRECTORY) -> Path:
    """Write the bill of materials of the locked libraries, as CycloneDX in JSON; its path.

    Raises:
        BuildError: the tool refuses.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"model-serving-{version}.cdx.json"
    command = [BIN / "cyclonedx-py", "requirements", "-", "--output-reproducible"]
    command += ["--pyproject", ROOT / "pyproject.toml", "--of", "JSON", "-o", file]
    done = subprocess.run(command, input=locked_here(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"cyclonedx-py: {done.stderr.strip()}")
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description="Build the image and print its name.")
    parser.add_argument("--version", help="of the Bento and the image; what `git describe` says unless given.")
    parser.add_argument("--engine", choices=ENGINES, help="what builds it; the first that there is unless given.")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="for the engine, such as build-arg=A=B."
    )
    given = parser.parse_args(arguments)
    try:
        engine = given.engine or find_engine()
        bento = build(version=given.version)
        sbom = write_sbom(bento.partition(":")[2])
        image = containerize(bento, engine=engine, options=given.option)
    except (BuildError, ModelError, ConfigurationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{image}\n{sbom.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
