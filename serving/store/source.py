"""Models that replace those of the store: files of `model_source.source`, imported once when a server starts.

So an image serves a newer model without being built anew. Whoever may write to the source chooses what is served; the
checks here are against files that are broken, too large, or made to do harm when they are unpacked.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Collection
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from urllib.parse import urlsplit

from serving.core.errors import ModelError
from serving.settings import Settings
from serving.store.archive import unpack
from serving.store.imported import announce, are_announced
from serving.store.models import ModelMetadata

# Below BentoML's: in the supervisor that is the one whose lines are written.
logger = logging.getLogger("bentoml.model_source")

SUFFIX = ".bentomodel"
_CHUNK = 1 << 20
_MOST_HASH_BYTES = 4096
_S3 = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}}


def prepare_models(settings: Settings) -> None:
    """Import the models of `model_source.source`, if there is one, for this process and those that it starts.

    Does nothing where the process was started by one that has done it.

    Raises:
        ModelError: nothing can be served from there; the message names the file and what is wrong with it.
    """
    source = settings.model_source.source
    if not source or are_announced():
        return
    directory = Path(mkdtemp(prefix="serving-models-"))
    atexit.register(_remove, directory, os.getpid())
    names = {entry.tag.partition(":")[0] for entry in settings.served.values()}
    import_models(source, directory, names=names, max_bytes=settings.model_source.max_bytes)
    announce(directory)


def _remove(directory: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def import_models(source: str, directory: Path, *, names: Collection[str], max_bytes: int) -> None:
    """Make `directory/<name>` of each exported model of `source` whose name is in `names`; raises as above."""
    try:
        filesystem, root = _open(source)
        filesystem.invalidate_cache()
        files = sorted(str(path) for path in filesystem.ls(root, detail=False) if str(path).endswith(SUFFIX))
        if not files:
            raise ModelError(f"no *{SUFFIX} there")
        for file in files:
            try:
                _import(filesystem, file, directory, names, max_bytes)
            except ModelError as error:
                raise ModelError(f"{file.rpartition('/')[2]}: {error}") from error
    except ModelError as error:
        raise ModelError(f"model_source.source {source}: {error}") from error
    # Each storage has exceptions of its own, and all of them end the start.
    except Exception as error:
        raise ModelError(f"model_source.source {source}: {type(error).__name__}: {error}") from error


def _open(source: str) -> tuple[Any, str]:
    import fsspec

    scheme = urlsplit(source).scheme
    if scheme not in ("", "file", "s3"):
        raise ModelError("only a directory or s3:// can be one")
    try:
        filesystem, root = fsspec.core.url_to_fs(source, **(_S3 if scheme == "s3" else {}))
    except ImportError as error:
        raise ModelError("s3:// needs s3fs: the extra s3 of this package") from error
    return filesystem, root


def _import(filesystem: Any, file: str, directory: Path, names: Collection[str], max_bytes: int) -> None:
    import bentoml

    with TemporaryDirectory(dir=directory, prefix=".") as temporary:
        packed = Path(temporary, f"model{SUFFIX}")
        digest = _fetch(partial(filesystem.open, file, "rb"), packed, max_bytes)
        expected = _expected(filesystem, file)
        if digest != expected:
            raise ModelError(f"its SHA-256 is {digest}, and {SUFFIX}.sha256 says {expected}")
        unpacked = Path(temporary, "model")
        unpack(packed, unpacked, max_bytes=max_bytes)
        try:
            model = bentoml.Model.from_path(unpacked)
            ModelMetadata.model_validate(model.info.metadata)
        except Exception as error:  # each library that reads a part of it has its own
            raise ModelError(f"not a model of this service: {error}") from error
        name = model.tag.name
        if name not in names:
            logger.warning("%s is %s, which is not served: left out", file, model.tag)
            return
        if (directory / name).exists():
            raise ModelError(f"a second model {name}")
        unpacked.rename(directory / name)
        logger.info("%s is served from %s", model.tag, file)


def _fetch(opened: Any, target: Path, max_bytes: int) -> str:
    """Copy the file and return its SHA-256."""
    digest = hashlib.sha256()
    copied = 0
    with opened() as content, target.open("wb") as output:
        while piece := content.read(_CHUNK):
            copied += len(piece)
            if copied > max_bytes:
                raise ModelError(f"larger than {max_bytes} bytes (model_source.max_bytes)")
            digest.update(piece)
            output.write(piece)
    return digest.hexdigest()


def _expected(filesystem: Any, file: str) -> str:
    """What the `.sha256` file beside it says; the format is that of `sha256sum`."""
    try:
        with filesystem.open(f"{file}.sha256", "rb") as content:
            text = content.read(_MOST_HASH_BYTES).decode("ascii", "replace")
    except FileNotFoundError as error:
        raise ModelError("no .sha256 file beside it; sha256sum writes one") from error
    found = re.match(r"([0-9a-fA-F]{64})(?:\s|$)", text)
    if found is None:
        raise ModelError("the .sha256 file beside it has no SHA-256")
    return found[1].lower()
