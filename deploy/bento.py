"""`python -m deploy.bento` (`make bento`): build the Bento, and print its tag.

BentoML builds it from bentofile.yaml alone, in a copy of what that names. `inventory.json` in the copy says what the
Bento is; the settings take the exact tags of its models from there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from serving.core.errors import ConfigurationError, ModelError
from serving.inventory import Inventory, Service, model_tags, take_models
from serving.settings.reading import read_settings
from serving.settings.recorded import FILE
from serving.store.lockfile import locked_versions
from serving.store.models import check_versions, open_model

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "deploy/Dockerfile.template"
_MAY_BE_MISSING = frozenset({FILE, "plugins/"})
_LABELS = "# labels of the Bento\n"
_JUNK = shutil.ignore_patterns("__pycache__", "*.pyc")


class BuildError(Exception):
    """The Bento cannot be built; the message says what to change."""


def build(*, version: str | None = None) -> str:
    """Build a Bento into the store and return its tag.

    Args:
        version: `git describe` unless given.

    Raises:
        BuildError: BentoML refuses, or the version is taken by a Bento with other models, or the models of the Bento
            are not those of the settings.
        ModelError: a model is missing, or contradicts the locked libraries.
    """
    settings = read_settings()
    locked = locked_versions()
    tags = {}
    for name, tag in model_tags(settings).items():
        model = open_model(tag)
        check_versions(model, strict=True, locked=locked)
        tags[name] = model.tag
    service = Service(version=version or describe(), revision=revision())
    tag = f"{service.name}:{service.version}"
    replace(tag, tags)
    # It runs on another machine, so nothing of this one is recorded.
    inventory = Inventory(service=service, libraries=locked, models=take_models(settings))
    # BentoML refuses a path with a hidden directory in it, such as .build.
    with TemporaryDirectory(prefix="bento-") as temporary:
        directory = Path(temporary)
        copy(directory)
        (directory / FILE).write_text(inventory.model_dump_json(indent=2) + "\n", encoding="utf-8")
        add_labels(directory, service, tags)
        _bentoml_build(directory, tag)
    check_models(tag, tags)
    return tag


def describe() -> str:
    """`git describe`, as BentoML takes it for a version."""
    described = _git("describe", "--always", "--dirty", "--tags")
    return re.sub(r"[^a-z0-9._-]", "-", described.lower())


def revision() -> str:
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"git: {done.stderr.strip()}; outside a repository give --version")
    return done.stdout.strip()


def copy(directory: Path) -> None:
    """Fill the empty `directory` with what bentofile.yaml names, and nothing else."""
    included = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))["include"]
    for name in [*included, "bentofile.yaml", "README.md", TEMPLATE]:
        source, target = ROOT / name, directory / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=_JUNK)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        elif name not in _MAY_BE_MISSING:
            raise BuildError(f"bentofile.yaml includes {name}, which is not there")


def add_labels(directory: Path, service: Service, tags: Mapping[str, str]) -> None:
    """The same labels for the Bento and, by OCI's names where it has one, for the image."""
    models = {f"model-serving.{name}": tag for name, tag in tags.items()}
    file = directory / "bentofile.yaml"
    options = yaml.safe_load(file.read_text(encoding="utf-8"))
    options["labels"] |= {"revision": service.revision, "version": service.version} | {
        name.replace("model-serving.", "model."): tag.replace(":", ".") for name, tag in models.items()
    }
    file.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    labels = {
        "org.opencontainers.image.version": service.version,
        "org.opencontainers.image.revision": service.revision,
        **models,
    }
    template = directory / TEMPLATE
    text = template.read_text(encoding="utf-8")
    if _LABELS not in text:
        raise BuildError(f"{TEMPLATE} has no place for the labels")
    line = " ".join(f'{name}="{value}"' for name, value in labels.items() if value)
    template.write_text(text.replace(_LABELS, f"LABEL {line}\n"), encoding="utf-8")


def replace(tag: str, models: Mapping[str, str]) -> None:
    """Remove an earlier build of the same code with the same models; another one under this version stays."""
    import bentoml

    try:
        there = bentoml.bentos.get(tag)
    except bentoml.exceptions.NotFound:
        return
    recorded = {str(model.tag) for model in there.info.all_models}
    if recorded != set(models.values()) and not tag.endswith("-dirty"):
        raise BuildError(
            f"{tag} is there already, with {', '.join(sorted(recorded)) or 'no models'}: delete it "
            f"(bentoml delete {tag}) or build this one with another --version"
        )
    bentoml.bentos.delete(tag)


def check_models(tag: str, models: Mapping[str, str]) -> None:
    """Remove the new Bento unless it has exactly these models.

    Its own configuration.yaml decides what it serves; variables of this process, or another file, may differ from it.

    Raises:
        BuildError: it has other models.
    """
    import bentoml

    packed = {str(model.tag) for model in bentoml.bentos.get(tag).info.all_models}
    if packed != set(models.values()):
        bentoml.bentos.delete(tag)
        raise BuildError(
            f"the Bento has {', '.join(sorted(packed)) or 'no models'} and not {', '.join(sorted(models.values()))}: "
            "enable and disable models in configuration.yaml, not by variables"
        )


def _bentoml_build(directory: Path, tag: str) -> None:
    command = [Path(sys.executable).parent / "bentoml", "build", "--output", "tag", "--version", tag.partition(":")[2]]
    # Variables for a running service must not get into the build.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVING")}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or tag not in done.stdout:
        raise BuildError(f"bentoml build: {(done.stderr or done.stdout).strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.bento", description="Build the Bento and print its tag.")
    parser.add_argument("--version", help="of the Bento; what `git describe` says unless given.")
    options = parser.parse_args(arguments)
    try:
        print(build(version=options.version))
    except (BuildError, ModelError, ConfigurationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
