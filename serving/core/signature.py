"""What a model takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from serving.core.errors import InvalidInputError
from serving.core.tensors import DTYPES, Tensors, all_finite, strings

# BentoML refuses None in the metadata of a model, so the store says -1.
ANY_LENGTH = -1
Dimension = Annotated[int | None, BeforeValidator(lambda length: None if length == ANY_LENGTH else length)]
Batching = Literal["free", "one", "none"]
"""How rows share a call: `free`, the first dimension of every tensor is the number of rows and may be any; `one`, it is
always 1, so that rows are run one by one; `none`, the tensors have no rows in common, so that a request is a call."""
_LONGEST_NAME = 64


class TensorSpec(BaseModel):
    """One input or output; `None` in `shape` is a dimension of any length."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dtype: str
    shape: list[Dimension]

    @property
    def inner_shape(self) -> list[int | None]:
        """Without the first dimension."""
        return list(self.shape[1:])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array may have `shape`."""
        expected = self.shape
        if len(shape) != len(expected):
            return False
        for length, wanted in zip(
            shape, expected, strict=True
        ):  # a loop is quicker than `all`, each request comes here
            if wanted is not None and length != wanted:
                return False
        return True

    def describe_shape(self) -> str:
        """`[N, 4]`, for messages."""
        names = iter("NMKL" + "?" * len(self.shape))
        return "[" + ", ".join(next(names) if length is None else str(length) for length in self.shape) + "]"


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors of a graph.

    Attributes:
        inputs: all are required.
        outputs: all are answered.
        batching: see `Batching`. Unless it is `none`, the first dimension of every spec is `None`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batching: Batching = "free"

    @property
    def has_rows(self) -> bool:
        """Whether requests may be split and joined by rows."""
        return self.batching != "none"

    @property
    def varies(self) -> bool:
        """Whether rows may differ in shape, so that not all fit into one batch."""
        return any(None in spec.inner_shape for spec in self.inputs)

    def check(self, tensors: Tensors, *, allow_nan: bool) -> None:
        """Judge names, dtypes, shapes, numbers of rows and finiteness.

        Raises:
            InvalidInputError: names the tensor and what it has to be.
        """
        self._check_names(tensors)
        rows: int | None = None
        for spec in self.inputs:
            array = tensors[spec.name]
            dtype = DTYPES[spec.dtype]
            if array.dtype != dtype.numpy:
                raise InvalidInputError(f"{spec.name}: {spec.dtype} is required, not {array.dtype.name}")
            if not spec.fits(array.shape):
                raise InvalidInputError(f"{spec.name}: the shape {list(array.shape)} is not {spec.describe_shape()}")
            if self.has_rows:
                if rows is not None and len(array) != rows:
                    raise InvalidInputError(f"{spec.name}: {len(array)} rows, where other inputs have {rows}")
                rows = len(array)
            if dtype.is_float and not allow_nan and not all_finite(array):
                place = "".join(f"[{index}]" for index in np.argwhere(~np.isfinite(array))[0].tolist())
                raise InvalidInputError(f"{spec.name}{place}: a finite number is required")

    def _check_names(self, tensors: Tensors) -> None:
        names = [spec.name for spec in self.inputs]
        for name in names:
            if name not in tensors:
                raise InvalidInputError(f"the input {name} is missing; the model has {', '.join(names)}")
        if len(tensors) > len(names):
            unknown = next(name for name in tensors if name not in names)
            raise InvalidInputError(f"there is no input {unknown[:_LONGEST_NAME]}; the model has {', '.join(names)}")

    def zeros(self, rows: int = 1) -> Tensors:
        """Inputs of zeros or empty strings, with 1 for every other dimension of any length."""
        found: Tensors = {}
        for spec in self.inputs:
            shape = tuple(1 if length is None else length for length in spec.shape)
            if self.has_rows:
                shape = (rows, *shape[1:])
            dtype = DTYPES[spec.dtype]
            found[spec.name] = (
                strings([""] * int(np.prod(shape)), shape) if dtype.is_text else np.zeros(shape, dtype.numpy)
            )
        return found
