"""Saving into the BentoML model store, all or nothing. `serving models add` and `train/` save with it.

`bentoml.models.create` copies file by file into the store and tidies up after an `Exception` only, so that a Ctrl-C or
a SIGKILL leaves a directory there that looks like a model. Here BentoML saves into a staging store beside the real
one, and one rename moves the finished version in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving.core.errors import ModelError
from serving.store import bentoml_store
from serving.store.models import MODEL_FILE, ModelMetadata

STAGING_PREFIX = "model-staging-"
_GUARD = "model-staging.lock"
_LOCK = "lock"
# A container runs as another user than the one who saved the model, who may have a strict umask.
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755


def library_versions(*names: str) -> dict[str, str]:
    """Versions of Python, BentoML, numpy and the distributions `names`, for `ModelMetadata.versions`.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    versions = {name: importlib.metadata.version(name) for name in ("bentoml", "numpy", *names)}
    return {"python": platform.python_version(), **versions}


def check_tag(tag: str) -> None:
    """Check a tag before the long work: `name`, or `name:version` that is not in the store yet.

    Raises:
        ModelError: BentoML would not take it.
    """
    try:
        _, version = bentoml_store.parse_tag(tag)
    except ValueError as error:
        raise ModelError(f"tag {tag}: {error}") from error
    if version == "latest":
        raise ModelError(f"tag {tag}: leave out the version, the new model becomes the latest anyway")
    if version is not None and bentoml_store.has_model(tag):
        raise ModelError(f"tag {tag}: this version is in the store already")


def file_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 by path of every file below `directory`, but for BentoML's own."""
    found = {}
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = file.relative_to(directory).as_posix()
        if name != MODEL_FILE:
            with file.open("rb") as content:
                found[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


class Staging:
    """A place beside the store where models are put together. `tags` are those that have been published."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tags: list[str] = []
        self._staged: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def model(self, tag: str, metadata: ModelMetadata, *, labels: dict[str, str]) -> Iterator[Path]:
        """Yield the directory into which the body writes the files of the model `tag`.

        Their hashes are added to the metadata.
        """
        values = metadata.to_store()
        with bentoml_store.create(tag, directory=self.directory, labels=labels, metadata=values) as (path, written):
            yield path
            written["files"] = file_hashes(path)
        name = tag.partition(":")[0]
        known = {version for staged, version in self._staged if staged == name}
        (version,) = {path.name for path in (self.directory / "models" / name).iterdir() if path.is_dir()} - known
        self._staged.append((name, version))

    def publish(self) -> None:
        """Move what was put together into the store; each becomes the latest of its name."""
        store = bentoml_store.models_directory()
        for name, version in self._staged:
            staged = self.directory / "models" / name
            _make_readable(staged / version)
            (store / name).mkdir(exist_ok=True)
            (staged / version).rename(store / name / version)
            latest = staged / f"latest-{version}"
            latest.write_text(version)
            latest.replace(store / name / "latest")
            self.tags.append(f"{name}:{version}")


@contextlib.contextmanager
def staging() -> Iterator[Staging]:
    """Put models together, and publish them when the body ends without an exception.

    Before that the store is untouched, however the process ends. What a killed process leaves behind lies outside the
    store; the next one removes it.
    """
    parent = bentoml_store.temporary_directory()
    with contextlib.ExitStack() as stack:
        # No process may sweep a directory between its making and its locking.
        with _locked(parent / _GUARD):
            _sweep(parent)
            directory = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.enter_context(_locked(directory / _LOCK))
        place = Staging(directory)
        yield place
        place.publish()


def _make_readable(directory: Path) -> None:
    directory.chmod(_DIRECTORY_MODE)
    for path in directory.rglob("*"):
        path.chmod(_DIRECTORY_MODE if path.is_dir() else _FILE_MODE)


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
