"""Saving into the BentoML model store, all or nothing.

`bentoml.models.create` copies file by file into the store and tidies up after an `Exception` only, so a
Ctrl-C or a SIGKILL leaves a directory there that looks like a model. Here BentoML saves into a staging store
beside the real one, and one rename moves the finished version in.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models.model import ModelStore

from serving.store.models import ModelMetadata
from train.errors import TrainingError

STAGING_PREFIX = "train-staging-"
_GUARD = "train-staging.lock"
_LOCK = "lock"


def library_versions(*names: str) -> dict[str, str]:
    """Versions of Python, BentoML, numpy and the distributions `names`, for `ModelMetadata.versions`.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    versions = {name: importlib.metadata.version(name) for name in ("bentoml", "numpy", *names)}
    return {"python": platform.python_version(), **versions}


def has_model(tag: str) -> bool:
    """Whether the store has a readable `tag`, which may be a name, `name:latest` or `name:version`."""
    try:
        # The store itself: `bentoml.models` imports BentoML's cloud client, 0.6 s of a start of `make serve`.
        BentoMLContainer.model_store.get().get(tag)
    except bentoml.exceptions.BentoMLException:
        return False
    return True


def check_tag(tag: str) -> None:
    """Check a tag before the long work: `name`, or `name:version` that is not in the store yet.

    Raises:
        TrainingError: BentoML would not take it.
    """
    try:
        parsed = bentoml.Tag.from_taglike(tag)
    except (ValueError, bentoml.exceptions.BentoMLException) as error:
        raise TrainingError(f"--store-tag {tag}: {error}") from error
    if parsed.version == "latest":
        raise TrainingError(f"--store-tag {tag}: leave out the version, the new model becomes the latest anyway")
    if parsed.version is not None and has_model(tag):
        raise TrainingError(f"--store-tag {tag}: this version is in the store already")


class Staging:
    """A place beside the store where models are put together. `tags` are those that have been published."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tags: list[str] = []
        self._staged: list[bentoml.Tag] = []

    @contextlib.contextmanager
    def model(self, tag: str, metadata: ModelMetadata, *, labels: dict[str, str]) -> Iterator[Path]:
        """Yield the directory into which the body writes the files of the model `tag`."""
        store = ModelStore(self.directory / "models")
        created = bentoml.models.create(tag, labels=labels, metadata=metadata.to_store(), _model_store=store)
        with self._temporary_files_here(), created as model:
            yield Path(model.path)
        self._staged.append(model.tag)

    @contextlib.contextmanager
    def _temporary_files_here(self) -> Iterator[None]:
        # BentoML collects the files in a temporary directory first. Here a killed run's files are found again.
        before = tempfile.tempdir
        tempfile.tempdir = str(self.directory)
        try:
            yield
        finally:
            tempfile.tempdir = before

    def publish(self) -> None:
        """Move what was put together into the store; each becomes the latest of its name."""
        store = Path(BentoMLContainer.model_store_dir.get())
        for tag in self._staged:
            staged = self.directory / "models" / tag.name
            (store / tag.name).mkdir(exist_ok=True)
            (staged / str(tag.version)).rename(store / tag.name / str(tag.version))
            (staged / "latest").replace(store / tag.name / "latest")
            self.tags.append(str(tag))


@contextlib.contextmanager
def staging() -> Iterator[Staging]:
    """Put models together, and publish them when the body ends without an exception.

    Before that the store is untouched, however the process ends. What a killed run leaves behind lies outside
    the store and is swept by the next run.
    """
    parent = Path(BentoMLContainer.tmp_bento_store_dir.get())
    with contextlib.ExitStack() as stack:
        # Nobody may sweep a directory between its making and its locking.
        with _locked(parent / _GUARD):
            _sweep(parent)
            directory = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.enter_context(_locked(directory / _LOCK))
        place = Staging(directory)
        yield place
        place.publish()


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on `path`. The kernel releases it when the process dies, however it dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _sweep(parent: Path) -> None:
    for directory in parent.glob(f"{STAGING_PREFIX}*/"):
        with contextlib.suppress(BlockingIOError), _locked(directory / _LOCK, wait=False):
            shutil.rmtree(directory, ignore_errors=True)
