"""Unpacking a `.bentomodel` that came from somewhere else: an xz-compressed tar, and everything in it is suspect."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path, PurePosixPath

from serving.core.errors import ModelError

_CHUNK = 1 << 20
# xz asks for the memory that its header names, up to 4 GB; what BentoML writes needs 9 MB.
_MOST_MEMORY = 128 << 20
_MOST_MEMBERS = 10_000
# To read one is to run what is in it. Nothing here does, so nothing that is served needs one.
_PICKLES = {".pkl", ".pickle", ".joblib", ".dill"}


def unpack(packed: Path, directory: Path, *, max_bytes: int) -> None:
    """Unpack `packed` into `directory`, which is made.

    Raises:
        ModelError: it is not such a file, is larger than `max_bytes` when unpacked, or has members that are not plain
            files and directories below it, or pickles. What has been unpacked by then stays in `directory`.
    """
    tar = packed.with_suffix(".tar")
    try:
        _decompress(packed, tar, max_bytes)
        with tarfile.open(tar, "r:") as archive:
            _extract(archive, directory)
    except (lzma.LZMAError, tarfile.TarError, EOFError, UnicodeError) as error:
        raise ModelError(f"not an exported model: {error}") from error
    finally:
        tar.unlink(missing_ok=True)


def _decompress(packed: Path, target: Path, max_bytes: int) -> None:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
    written = 0
    with packed.open("rb") as source, target.open("wb") as output:
        while not decompressor.eof:
            piece = source.read(_CHUNK) if decompressor.needs_input else b""
            if decompressor.needs_input and not piece:
                raise EOFError("it ends in the middle")
            content = decompressor.decompress(piece, max_length=_CHUNK)
            written += len(content)
            if written > max_bytes:
                raise ModelError(f"larger than {max_bytes} bytes when unpacked (model_source.max_bytes)")
            output.write(content)
        if decompressor.unused_data or source.read(1):
            raise ModelError("there is more in it after its end")


def _extract(archive: tarfile.TarFile, directory: Path) -> None:
    directory.mkdir()
    for number, member in enumerate(archive):
        if number >= _MOST_MEMBERS:
            raise ModelError(f"more than {_MOST_MEMBERS} files in it")
        path = PurePosixPath(member.name)
        shown = ascii(member.name[:200])
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            raise ModelError(f"{shown} in it is outside of the model")
        target = directory / path
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        if not member.isreg() or member.issparse():
            raise ModelError(f"{shown} in it is a link, a device or something else that is not a file")
        if path.suffix.lower() in _PICKLES:
            raise ModelError(f"{shown} in it is a pickle, and those are not loaded")
        content = archive.extractfile(member)
        if content is None:
            raise ModelError(f"{shown} in it cannot be read")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Nothing that is there is written to: a second member of a name is not that of an export.
        with target.open("xb") as output:
            while piece := content.read(_CHUNK):
                output.write(piece)
