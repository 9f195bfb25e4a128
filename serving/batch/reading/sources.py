"""The files of an input: a file, a directory with all below it, a glob, or a URL of either."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import fsspec

from serving.batch.reading import FilesError
from serving.batch.reading.kinds import Format, format_of, refusal

_IDENTITY = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modified")
_READ = ".csv, .tsv, .jsonl, .ndjson, .json, .parquet or .pq, and of text also with .gz, .bz2, .xz or .zst"
_TABLES = {
    "_delta_log": ("a Delta table", "deltalake: DeltaTable(…).to_pyarrow_table()"),
    ".hoodie": ("a Hudi table", "Spark: spark.read.format('hudi')"),
    "metadata": ("an Iceberg table", "pyiceberg: table.scan().to_arrow()"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """The files of an input and how to tell that they are still the same."""

    url: str
    format: Format
    files: list[dict[str, Any]]
    """Path, size, and the time of change or ETag of each."""
    skipped: list[str] = field(default_factory=list)
    """Names of the other files, but for those of tools."""


def open_filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL or path, and the path in it.

    Raises:
        FilesError: there is no such protocol, or the package for it is not installed.
    """
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(url.partition("://")[0])
        hint = f": pip install 'model-serving[{extra}]'" if extra else ""
        raise FilesError(f"{url}: {error}{hint}") from error
    except ValueError as error:
        raise FilesError(f"{url}: {error}") from error
    return found


def find_source(url: str, form: Format | None = None) -> Source:
    """The files that `url` names, all of one format.

    Files and directories whose names begin with `_` or `.` are those of tools, as Spark and Arrow have it, and `.crc`
    files are their checksums. Other files that are no rows are in `skipped`.

    Args:
        form: the format, whatever the names say.

    Raises:
        FilesError: there are none, they are of several formats, or they are files of a table format.
    """
    filesystem, path = open_filesystem(url)
    path = path.rstrip("/") or path
    if any(sign in path for sign in "*?[") and not filesystem.exists(path):
        found = filesystem.glob(path, detail=True)
        below = ""
    else:
        # what a bucket lists may be older than the file that has just been written
        filesystem.invalidate_cache()
        found = filesystem.find(path, detail=True)
        below = path
    names = [name for name, info in sorted(found.items()) if info.get("type") == "file"]
    _refuse_tables(filesystem, url, names, below)
    names = [name for name in names if not _is_of_a_tool(name, below)]
    if not names:
        raise FilesError(f"{url}: there is no such file" if not found else f"{url}: there are only files of tools")
    formats: dict[str, Format] = {}
    skipped: list[str] = []
    for name in names:
        shown = name.removeprefix(f"{below}/") if below and name != below else name
        refused = None if form else refusal(name)
        found_format = form or (None if refused else format_of(name))
        if found_format is not None and found[name].get("size") != 0:
            formats[name] = found_format
        elif len(names) == 1:
            raise FilesError(
                refused or f"{name}: {'the file is empty' if found_format else f'the name has to end in {_READ}'}"
            )
        else:
            skipped.append(shown)
    if not formats:
        raise FilesError(f"{url}: there is no file of rows (its name ends in {_READ}): {', '.join(skipped[:20])}")
    if len(kinds := sorted(set(formats.values()))) > 1:
        raise FilesError(f"{url}: there are files of {' and '.join(kinds)}; name those of one kind, as with *.parquet")
    return Source(url, kinds[0], [_identity(name, found[name]) for name in formats], skipped)


def _is_of_a_tool(name: str, below: str) -> bool:
    relative = name.removeprefix(below) if below != name else posixpath.basename(name)
    return name.endswith(".crc") or any(piece.startswith(("_", ".")) for piece in relative.split("/"))


def _refuse_tables(filesystem: Any, url: str, names: Iterable[str], below: str) -> None:
    """A table format keeps removed and old rows beside the current ones: only its own library knows which is which."""
    directories = {below} if below else set()
    for name in names:
        *above, directory, last = ["", *name.removeprefix(below).split("/")]
        for mark in {directory, *above} & _TABLES.keys():
            if mark != "metadata" or (directory == mark and last.endswith(".metadata.json")):
                raise FilesError(_table_refusal(url, mark))
        directories.add(posixpath.dirname(name))
    for directory in directories:
        while "=" in posixpath.basename(directory):  # a partition of a table
            directory = posixpath.dirname(directory)  # noqa: PLW2901
        for mark in _TABLES:
            beside = f"{directory}/{mark}"
            if filesystem.exists(beside) and (mark != "metadata" or filesystem.glob(f"{beside}/*.metadata.json")):
                raise FilesError(_table_refusal(url, mark))


def _table_refusal(url: str, mark: str) -> str:
    kind, library = _TABLES[mark]
    return (
        f"{url} is {kind}, whose files also have rows that were removed or replaced: "
        f"export the current ones as Parquet with its own library ({library})"
    )


def _identity(name: str, info: dict[str, Any]) -> dict[str, Any]:
    version = next((str(info[key]) for key in _IDENTITY if info.get(key) is not None), "")
    return {"path": name, "size": info.get("size"), "version": version}
