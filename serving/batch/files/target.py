"""What is written: a directory of parts, each there as a whole or not at all.

    OUTPUT/_manifest.json            what is scored by which model; a run with anything else is refused
    OUTPUT/_committed/00000.json     a part that is done: its file and its counts
    OUTPUT/_temporary/               parts that are being written
    OUTPUT/[DIRECTORY/]part-00000.parquet

Readers of data sets pass over what begins with `_`. On an object store a rename is a copy and a deletion, and an
object is there when all of it is; what decides is the record in `_committed`, which is written last.
"""

from __future__ import annotations

import json
import posixpath
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from serving.batch.files.parts import Part
from serving.batch.reading import FilesError
from serving.batch.reading.kinds import Format
from serving.batch.reading.sources import open_filesystem

TargetFormat = Literal["parquet", "csv"]
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Done:
    """A part that is in the output."""

    number: int
    file: str
    rows: int
    failed: int
    engine_seconds: float
    """Processor time within the engine's calls, each of which runs in the thread that makes it."""
    bad: str = "[]"
    """The first bad rows as JSON: number of the line in the part, and why."""


class Manifest:
    """The output directory: which parts it has, and of what."""

    def __init__(self, url: str) -> None:
        self._filesystem, path = open_filesystem(url)
        self.path = path.rstrip("/")
        self.url = url

    def pin(self, pinned: dict[str, Any]) -> dict[str, Any]:
        """Begin the output, or go on with one of the same input, model and columns; how it is cut is as it was begun.

        Raises:
            FilesError: the output is of something else, or the directory has other files.
        """
        name = f"{self.path}/_manifest.json"
        self._filesystem.invalidate_cache()
        if self._filesystem.exists(name):
            old: dict[str, Any] = self._load(name)
            for key, meaning in {
                "model_tag": "model",
                "input": "input",
                "columns": "columns",
                "format": "format",
                "options": "reading of the input",
            }.items():
                if old.get(key) != pinned.get(key):
                    raise FilesError(
                        f"{self.url} was begun with another {meaning}{_difference(old.get(key), pinned.get(key))}: "
                        "give another OUTPUT, or delete this one"
                    )
            return old
        if self._filesystem.exists(self.path) and self._filesystem.find(self.path):
            raise FilesError(f"{self.url} has files of something else: give a new or an empty directory")
        self._save(name, pinned)
        return pinned

    def done(self) -> dict[int, Done]:
        """The parts that need not be done again."""
        directory = f"{self.path}/_committed"
        if not self._filesystem.exists(directory):
            return {}
        found = [Done(**self._load(name)) for name in self._filesystem.find(directory) if name.endswith(".json")]
        return {each.number: each for each in found if self._filesystem.exists(f"{self.path}/{each.file}")}

    @contextmanager
    def part(self, part: Part, format_: TargetFormat) -> Iterator[tuple[Any, str]]:
        """A file to write a part into and the name that it gets, relative to the output, when the block ends well."""
        name = posixpath.join(part.directory, f"part-{part.number:05d}.{format_}")
        temporary = f"{self.path}/_temporary/{part.number:05d}-{secrets.token_hex(4)}"
        self._filesystem.makedirs(posixpath.dirname(temporary), exist_ok=True)
        try:
            with self._filesystem.open(temporary, "wb") as file:
                yield file, name
            target = f"{self.path}/{name}"
            self._filesystem.makedirs(posixpath.dirname(target), exist_ok=True)
            self._filesystem.mv(temporary, target)
        except BaseException:
            with suppress(OSError):
                self._filesystem.rm(temporary)
            raise

    def commit(self, done: Done) -> None:
        """From now on the part is done."""
        self._save(f"{self.path}/_committed/{done.number:05d}.json", asdict(done))

    def finish(self) -> None:
        """Everything is done: what killed runs have left goes."""
        with suppress(FileNotFoundError):
            self._filesystem.rm(f"{self.path}/_temporary", recursive=True)

    def _load(self, name: str) -> Any:
        try:
            return json.loads(self._filesystem.cat_file(name))
        except ValueError as error:
            raise FilesError(f"{name} is not what score-files has written: {error}") from error

    def _save(self, name: str, content: dict[str, Any]) -> None:
        """All of it or nothing, on a local disk as well."""
        temporary = f"{name}.{secrets.token_hex(4)}"
        self._filesystem.makedirs(posixpath.dirname(name), exist_ok=True)
        self._filesystem.pipe_file(temporary, json.dumps(content).encode())
        self._filesystem.mv(temporary, name)


def _difference(old: Any, new: Any) -> str:
    return f" ({old}, not {new})" if isinstance(old, str) else ""


def choose_format(output: str, given: TargetFormat | None, source: Format) -> TargetFormat:
    """What is asked for, or what the name of the output says, or as the input."""
    suffix = posixpath.splitext(output.rstrip("/"))[1].lower()
    if given or suffix in (".csv", ".parquet", ".pq"):
        return given or ("csv" if suffix == ".csv" else "parquet")
    return "csv" if source == "csv" else "parquet"


class Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


@contextmanager
def writing(file: Any, format_: TargetFormat, schema: pa.Schema, *, added: Sequence[str]) -> Iterator[Writer]:
    """A writer of batches of `schema`. Lists in the columns that are `added` become JSON in CSV, which has no lists.

    Raises:
        FilesError: the format cannot have a column of the input.
    """
    sink = pa.PythonFile(file, mode="w")
    if format_ == "parquet":
        writer: Writer = pq.ParquetWriter(sink, schema, compression="snappy")
    else:
        writer = _CsvWriter(sink, schema, added)
    try:
        yield writer
    finally:
        writer.close()


class _CsvWriter:
    """Lists become JSON, as `[0.97,0.02,0.01]`."""

    def __init__(self, sink: Any, schema: pa.Schema, added: Sequence[str]) -> None:
        self._schema = pa.schema([_plain(field, added) for field in schema])
        self._writer = pacsv.CSVWriter(sink, self._schema)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        columns = [
            _json(column) if pa.types.is_list(column.type) else column.cast(field.type)
            for column, field in zip(batch.columns, self._schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _plain(field: pa.Field, added: Sequence[str]) -> pa.Field:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_nested(kind):
        if field.name not in added:
            raise FilesError(f"column {field.name} is {kind}, which CSV cannot have; use --format parquet")
        kind = pa.string()
    return pa.field(field.name, kind)


def _json(lists: pa.Array) -> pa.Array:
    """Lists as text."""
    valid = lists.filter(lists.is_valid())
    if not len(valid):
        return pa.nulls(len(lists), pa.string())
    lengths = pc.list_value_length(valid)
    length = lengths[0].as_py()
    if not length or not pa.types.is_floating(lists.type.value_type) or not pc.all(pc.equal(lengths, length)).as_py():
        return pa.array(
            [None if value is None else _encode(value).decode() for value in lists.to_pylist()], pa.string()
        )
    values = valid.flatten().to_numpy().reshape(len(valid), -1)
    columns = [pa.array(np.ascontiguousarray(column)).cast(pa.string()) for column in values.T]
    joined = pc.binary_join_element_wise("[", pc.binary_join_element_wise(*columns, ","), "]", "")
    good = lists.is_valid().to_numpy(zero_copy_only=False)
    return joined.take(pa.array(np.cumsum(good) - 1, mask=~good))
