"""What callers give: rows, images and tensors in the forms that Python programs have them in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from serving.client.description import Description

JSON_TYPE = "application/json"
IMAGE_TYPE = "image/*"
"""Of any image file: the server looks at the file itself."""

Rows = Any
"""Lists of values, records by column name, a NumPy array `[N, columns]`, or a DataFrame of pandas or Polars."""
Image = Any
"""The bytes of an image file, its path, an open binary file, or an image of Pillow."""
Tensors = Mapping[str, Any]
"""Arrays or nested lists by the name of the input."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Exactly one of rows, image files and tensors, in plain form; and how many classes to name, `None` for all."""

    rows: list[Any] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)
    top_k: int | None = None

    @classmethod
    def of(
        cls,
        rows: Rows = (),
        image: Image | None = None,
        images: Sequence[Image] = (),
        tensors: Tensors | None = None,
        top_k: int | None = None,
    ) -> Inputs:
        """Raises ValueError when there is not exactly one of them, and OSError for a file that cannot be read."""
        given = cls(
            plain_rows(rows),
            [read_image(each) for each in (images if image is None else (image, *images))],
            dict(tensors or {}),
            top_k,
        )
        if [bool(given.rows), bool(given.images), bool(given.tensors)].count(True) != 1:
            raise ValueError("one of rows, images and tensors is required")
        if top_k is not None and top_k < 1:
            raise ValueError("top_k has to be at least 1")
        return given

    def check(self, description: Description) -> None:
        """Raises ValueError when the model takes something else."""
        given = "rows" if self.rows else "image" if self.images else "tensors"
        if given != description.kind:
            names = {"rows": "rows", "image": "images", "tensors": "tensors"}
            wanted = names.get(description.kind, description.kind)
            raise ValueError(f"the model {description.name} takes {wanted}, not {names[given]}")


def plain_rows(rows: Rows) -> list[Any]:
    """Lists or records; missing values of arrays and frames are `None`.

    Raises:
        ValueError: an array is no table, or columns have the same name.
    """
    if hasattr(rows, "to_dicts"):  # Polars
        found: list[Any] = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        found = _from_pandas(rows)
    elif hasattr(rows, "tolist"):
        if getattr(rows, "ndim", 2) != 2:
            raise ValueError("rows: an array of two dimensions is required, rows and columns")
        found = plain_array(rows)
    else:
        found = list(rows)
    return found


def _from_pandas(frame: Any) -> list[Any]:
    if not frame.columns.is_unique:
        raise ValueError("rows: two columns have the same name")
    plain = frame.astype(object).where(frame.notna(), None)
    if any(isinstance(name, str) for name in frame.columns):
        records: list[Any] = plain.to_dict("records")
        return records
    lists: list[Any] = plain.to_numpy().tolist()
    return lists


def plain_array(array: Any) -> Any:
    """Nested lists of an array; NaN, which JSON does not have, is `None`."""
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "kind", "") == "f":
        missing = array != array  # noqa: PLR0124 - NaN
        if missing.any():
            array = array.astype(object)
            array[missing] = None
    return array.tolist()


def read_image(image: Image) -> bytes:
    """The bytes of an image file; an image of Pillow becomes a PNG file.

    Raises:
        ValueError: it is none of the forms of `Image`.
        OSError: the file cannot be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | PathLike):
        return Path(image).read_bytes()
    if hasattr(image, "read"):
        content = image.read()
        if not isinstance(content, bytes):
            raise ValueError("image: the file has to be open in binary mode")
        return content
    if hasattr(image, "save"):
        file = BytesIO()
        image.save(file, "PNG")
        return file.getvalue()
    raise ValueError(
        f"image: bytes, a path, a binary file or an image of Pillow is required, not {type(image).__name__}"
    )


def rows_body(rows: Rows) -> dict[str, Any]:
    """The JSON body of the service's own routes. Raises ValueError as `plain_rows`."""
    return {"data": plain_rows(rows)}


def tensors_body(tensors: Tensors) -> dict[str, Any]:
    """The JSON body of the service's own routes."""
    return {
        "inputs": {name: plain_array(value) if hasattr(value, "tolist") else value for name, value in tensors.items()}
    }


def to_json(value: Any) -> bytes:
    """JSON of plain values, of NumPy's numbers and arrays, and of text in bytes.

    Raises:
        ValueError: a value has no JSON, such as NaN or an object.
    """
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the inputs cannot be sent: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON")
