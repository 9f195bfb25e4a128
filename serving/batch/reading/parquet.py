"""Opening Parquet, and which of its types a model can take. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch.reading import FilesError
from serving.batch.reading.judge import Table


@contextmanager
def opened_parquet(filesystem: Any, name: str) -> Iterator[Any]:
    """The file; raises FilesError where it is not Parquet, or is damaged."""
    with filesystem.open(name, "rb") as file:
        try:
            with closing(pq.ParquetFile(file)) as parquet:
                yield parquet
        except (pa.ArrowException, OSError) as error:
            raise FilesError(f"{name}: not a Parquet file that can be read: {error}") from error


def check_types(schema: pa.Schema, places: Sequence[int], table: Table, name: str) -> None:
    """Raises FilesError where no value of a column can be one of the model's."""
    for place, column in zip(places, table.columns, strict=True):
        field = schema.field(place)
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_temporal(kind):
            advice = "make a number of it, as the model was trained on"
        elif pa.types.is_nested(kind):
            advice = "give each of its values a column of its own"
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            advice = "write it as text or numbers"
        else:
            continue
        raise FilesError(f"{name}: the column {field.name} is {kind}, and the model takes {column.dtype}: {advice}")
