"""BentoML's model store on disk. Everything here that BentoML does not publish is used in this module only.

`bentoml.models` imports BentoML's cloud client, 0.6 s of a start, so that what only looks does without it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import bentoml
import yaml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore

# What reading a directory raises that is no model: its description is missing, not YAML, or lacks something.
UNREADABLE = (bentoml.exceptions.BentoMLException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError)


class Entry(NamedTuple):
    """One model in the store, of this project or of another."""

    tag: str
    path: Path
    created_at: datetime
    metadata: dict[str, Any]


def models_directory() -> Path:
    """Where the store keeps models, as `<name>/<version>/` and `<name>/latest`."""
    return Path(BentoMLContainer.model_store_dir.get())


def temporary_directory() -> Path:
    """A directory of BentoML's on the same file system as the store."""
    return Path(BentoMLContainer.tmp_bento_store_dir.get())


def has_model(tag: str) -> bool:
    """Whether the store has a readable `tag`, which may be a name, `name:latest` or `name:version`."""
    try:
        BentoMLContainer.model_store.get().get(tag)
    except UNREADABLE:
        return False
    return True


def entries() -> Iterator[Entry]:
    """Every readable model in the store, by name, the newest version of a name first."""
    store = BentoMLContainer.model_store.get()
    for directory in sorted(path for path in models_directory().iterdir() if path.is_dir()):
        found = []
        for version in directory.iterdir():
            # What is not a model is not of this project: a directory that a killed copy has left behind, for example.
            with contextlib.suppress(*UNREADABLE):
                if version.is_dir():
                    model = store.get(f"{directory.name}:{version.name}")
                    created_at = model.info.creation_time
                    found.append(Entry(str(model.tag), Path(model.path), created_at, dict(model.info.metadata)))
        yield from sorted(found, key=lambda each: each.created_at, reverse=True)


def delete(tag: str) -> None:
    """Remove the model `tag` with its version; the newest of the others becomes the latest."""
    BentoMLContainer.model_store.get().delete(tag)


def parse_tag(tag: str) -> tuple[str, str | None]:
    """Name and version of a tag.

    Raises:
        ValueError: BentoML would not take it.
    """
    try:
        parsed = bentoml.Tag.from_taglike(tag)
    except bentoml.exceptions.BentoMLException as error:
        raise ValueError(str(error)) from error
    return parsed.name, parsed.version


@contextlib.contextmanager
def create(
    tag: str, *, directory: Path, labels: dict[str, str], metadata: dict[str, Any]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make a model in a store of its own, `directory/models`, and not in BentoML's.

    Yields the directory into which the body writes the files, and the metadata, which the body may still change.
    """
    created = bentoml.models.create(
        tag, labels=labels, metadata=metadata, _model_store=ModelStore(directory / "models")
    )
    with _temporary_files_in(directory), created as model:
        yield Path(model.path), model.info.metadata


@contextlib.contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    # BentoML collects the files in a temporary directory first. Here those of a killed process are found again.
    before = tempfile.tempdir
    tempfile.tempdir = str(directory)
    try:
        yield
    finally:
        tempfile.tempdir = before
