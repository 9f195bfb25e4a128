"""Files with weights beside a graph. Their paths come from the file, so that they are hostile."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from serving.add.protobuf import all_tensors, shown_name
from serving.core.errors import ModelError
from serving.store.models import MODEL_FILE, ONNX_FILE, SAMPLE_FILE

# Files of a stored model that no weights may overwrite; BentoML unpickles the last one.
_RESERVED = {MODEL_FILE, ONNX_FILE, SAMPLE_FILE, "custom_objects.pkl"}
_PICKLES = {".pkl", ".pickle", ".joblib", ".dill"}


def find_external_data(proto: Any, source: Path) -> dict[str, Path]:
    """Files with weights, by the path that the graph has for them, relative to its own directory.

    Args:
        proto: the `onnx.ModelProto`.
        source: its file.

    Raises:
        ModelError: a file is missing, too short, or lies where it may not.
    """
    found: dict[str, Path] = {}
    for tensor in all_tensors(proto):
        if not tensor.external_data and tensor.data_location != 1:  # TensorProto.EXTERNAL
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        # `./weights` and `weights` are one file.
        path = str(PurePosixPath(location)) if location else ""
        if path not in found:
            found[path] = _external_file(source, location)
        _check_range(source, location, found[path], entries)
    return found


def _external_file(source: Path, location: str) -> Path:
    shown = shown_name(location)
    path = PurePosixPath(location)
    if (
        not location
        or path.is_absolute()
        or ".." in path.parts
        or not path.parts
        or re.search(r"[\\\0]|^[A-Za-z]:", location)
    ):
        raise ModelError(f"{source}: its external data {shown!r} is outside of the model's directory; export it again")
    if path.parts[0].lower() in _RESERVED or path.suffix.lower() in _PICKLES:
        raise ModelError(f"{source}: its external data may not be called {shown}; save it under another name")
    file = source.parent
    for part in path.parts:
        file = file / part
        if file.is_symlink():
            raise ModelError(f"{source}: its external data {shown} is behind a symbolic link; copy the file itself")
    try:
        regular = stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        raise ModelError(f"{source}: its external data {shown} is missing; it has to lie beside the graph") from error
    if not regular:
        raise ModelError(f"{source}: its external data {shown} is no file")
    if not os.access(file, os.R_OK):
        raise ModelError(f"{source}: its external data {shown} may not be read")
    return file


def _check_range(source: Path, location: str, file: Path, entries: dict[str, str]) -> None:
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    except ValueError as error:
        raise ModelError(f"{source}: the place of a tensor in {shown_name(location)} is no number") from error
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise ModelError(
            f"{source}: its external data {shown_name(location)} is shorter than the graph says; copy it again"
        )
