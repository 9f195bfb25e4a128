"""The Open Inference Protocol's messages in protobuf."""

from __future__ import annotations

from typing import Any

import msgspec
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES
from serving.grpc.messages import message
from serving.protocols.open_inference.messages import (
    BinaryData,
    Data,
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    OutputTensor,
    Parameters,
    to_binary,
)
from serving.protocols.tensors import as_bytes, check_count, from_numbers, from_texts

ModelInferResponse = message("inference.ModelInferResponse")
ModelStreamInferResponse = message("inference.ModelStreamInferResponse")
_LIST = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The list of `InferTensorContents` by datatype; FP16 has none."""
_NO_PARAMETERS: Parameters = {}


class TypedData:
    """Elements in the typed list of their datatype."""

    __slots__ = ("contents",)
    listed = True

    def __init__(self, contents: Any) -> None:
        self.contents = contents

    def read(self, spec: TensorSpec, shape: tuple[int, ...], *, allow_nan: bool) -> NDArray[Any]:  # noqa: ARG002
        name = _LIST.get(DTYPES[spec.dtype].open_inference)
        if name is None:
            raise InvalidInputError(f"{spec.name}: {spec.dtype} has to come in raw_input_contents")
        values = getattr(self.contents, name)
        check_count(spec, len(values), shape)
        return (from_texts if DTYPES[spec.dtype].is_text else from_numbers)(spec, values, shape)


def read_request(request: Any) -> InferRequest:
    """A ModelInferRequest. The answer is raw where the request is.

    Raises:
        InvalidInputError: the raw contents are not those of the inputs.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidInputError(f"raw_input_contents has {len(raws)} parts for {len(request.inputs)} inputs")
    inputs: list[InferInput] = []
    for index, tensor in enumerate(request.inputs):
        if raws and tensor.HasField("contents"):
            raise InvalidInputError(f"{tensor.name[:64]}: either contents or raw_input_contents, not both")
        data: Data = BinaryData(raws[index]) if raws else TypedData(tensor.contents)
        inputs.append(InferInput(tensor.name, tensor.datatype, tensor.shape, _parameters(tensor.parameters), data))
    raw = bool(raws)
    outputs = [InferOutput(output.name, _parameters(output.parameters), raw) for output in request.outputs]
    return InferRequest(inputs, outputs, _parameters(request.parameters), request.id, raw)


def _parameters(given: Any) -> Parameters:
    if not given:
        return _NO_PARAMETERS
    return {
        name: getattr(value, kind) if (kind := value.WhichOneof("parameter_choice")) else None
        for name, value in given.items()
    }


def write_response(answer: InferResponse) -> Any:
    """A ModelInferResponse."""
    response = ModelInferResponse(model_name=answer.model_name, model_version=answer.model_version, id=answer.id or "")
    # Contents are all raw or all typed, and float16 has no typed form.
    raw = any(output.binary or output.datatype not in _LIST for output in answer.outputs)
    for output in answer.outputs:
        described = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
        if raw:
            response.raw_output_contents.append(to_binary(output.array))
        else:
            getattr(described.contents, _LIST[output.datatype]).extend(_values(output))
    return response


def _values(output: OutputTensor) -> list[Any]:
    if output.array.dtype == object:
        return as_bytes(output.array)
    values: list[Any] = output.array.ravel().tolist()
    return values


def from_struct(kind: Any, struct: msgspec.Struct) -> Any:
    """A message of the type `kind` with the fields of a struct that has the same names."""
    return kind(**msgspec.to_builtins(struct))
