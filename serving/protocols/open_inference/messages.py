"""What is said in the Open Inference Protocol, whether in JSON or in protobuf."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES
from serving.protocols.tensors import as_bytes, as_little_endian, from_little_endian, from_texts

Parameters = Mapping[str, Any]
"""Text, numbers, booleans or None; what is nested in JSON is another object, which no check takes for any of these."""
"""Of a request or a tensor; those that nobody knows are ignored."""


class Data(Protocol):
    """The elements of an input, which are read once it is known what they have to be."""

    listed: bool
    """Whether they are converted one by one; otherwise they lie there as the engine takes them."""

    def read(self, spec: TensorSpec, shape: tuple[int, ...], *, allow_nan: bool) -> NDArray[Any]:
        """An array of the dtype of `spec`, strings as `str`; raises InvalidInputError."""


class BinaryData:
    """Elements as they lie in memory: numbers in little-endian order; before each string its length in four bytes.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
    """

    __slots__ = ("content",)
    listed = False

    def __init__(self, content: bytes | memoryview) -> None:
        self.content = content

    def read(self, spec: TensorSpec, shape: tuple[int, ...], *, allow_nan: bool) -> NDArray[Any]:  # noqa: ARG002
        if DTYPES[spec.dtype].is_text:
            return from_texts(spec, read_elements(spec, shape, memoryview(self.content)), shape)
        return from_little_endian(spec, self.content, shape)


def read_elements(spec: TensorSpec, shape: tuple[int, ...], content: memoryview) -> list[bytes]:
    """The strings of `BinaryData`.

    Raises:
        InvalidInputError: there are more or fewer than the shape has, or the last one is cut off.
    """
    count = math.prod(shape)
    found: list[bytes] = []
    start = 0
    while start < len(content) and len(found) < count:
        body = start + 4
        end = body + int.from_bytes(content[start:body], "little")
        if end > len(content):
            raise InvalidInputError(f"{spec.name}: element {len(found)} is cut off")
        found.append(bytes(content[body:end]))
        start = end
    if start != len(content) or len(found) != count:
        raise InvalidInputError(f"{spec.name}: the shape has {count} elements, the data has not")
    return found


def to_binary(array: NDArray[Any]) -> bytes:
    """An output in the form of `BinaryData`."""
    if array.dtype != object:
        return as_little_endian(array)
    parts: list[bytes] = []
    for value in as_bytes(array):
        parts += (len(value).to_bytes(4, "little"), value)
    return b"".join(parts)


class InferInput(msgspec.Struct):
    """An input; `data` is `None` where the request has none."""

    name: str
    datatype: str
    shape: Sequence[int]
    parameters: Parameters
    data: Data | None


class InferOutput(msgspec.Struct):
    """An output that is asked for; `binary` asks for `BinaryData`."""

    name: str
    parameters: Parameters
    binary: bool = False


class InferRequest(msgspec.Struct):
    """`outputs` is empty where all are asked for, then `binary` counts for each of them."""

    inputs: Sequence[InferInput]
    outputs: Sequence[InferOutput]
    parameters: Parameters
    id: str | None = None
    binary: bool = False


class OutputTensor(msgspec.Struct):
    """An output; strings are an array of `object`."""

    name: str
    datatype: str
    array: NDArray[Any]
    binary: bool


class InferResponse(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


# What is said of the server and its models. The order of fields is that of JSON.


class Server(msgspec.Struct):
    name: str
    version: str
    extensions: Sequence[str]


class TensorMetadata(msgspec.Struct):
    """-1 in `shape` is a dimension of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelIndex(msgspec.Struct):
    """A model of the repository."""

    name: str
    version: str
    state: str
    reason: str


class ConfigTensor(msgspec.Struct):
    """`dims` is without the dimension of the batch, where there is one."""

    name: str
    data_type: str
    dims: list[int]


class Latest(msgspec.Struct):
    num_versions: int = 1


class VersionPolicy(msgspec.Struct):
    latest: Latest = msgspec.field(default_factory=Latest)


class TransactionPolicy(msgspec.Struct):
    decoupled: bool = False


INTERFACE = "interface"
"""Parameter of a model's configuration that says what the service's own metadata say of the interface, as JSON."""


class ConfigParameter(msgspec.Struct):
    string_value: str


class ModelConfig(msgspec.Struct):
    """As Triton's; `max_batch_size` is 0 where requests have no rows."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfigTensor]
    output: list[ConfigTensor]
    version_policy: VersionPolicy = msgspec.field(default_factory=VersionPolicy)
    model_transaction_policy: TransactionPolicy = msgspec.field(default_factory=TransactionPolicy)
    parameters: dict[str, ConfigParameter] = {}


class Duration(msgspec.Struct):
    count: int = 0
    ns: int = 0


class InferStatistics(msgspec.Struct):
    success: Duration
    fail: Duration
    compute_input: Duration
    compute_infer: Duration
    queue: Duration
    compute_output: Duration
    cache_hit: Duration = msgspec.field(default_factory=Duration)
    cache_miss: Duration = msgspec.field(default_factory=Duration)


class BatchStatistics(msgspec.Struct):
    """Of the calls with so many rows."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(msgspec.Struct):
    """As Triton's; durations in nanoseconds, `last_inference` in milliseconds since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: list[BatchStatistics]
