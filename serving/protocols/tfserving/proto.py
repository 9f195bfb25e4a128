"""TensorFlow Serving's messages in protobuf."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import InvalidInputError
from serving.core.signature import TensorSpec
from serving.core.tensors import DTYPES, Tensors
from serving.grpc.messages import POOL, message
from serving.protocols.tensors import (
    as_bytes,
    check_listed,
    check_shape,
    from_little_endian,
    from_numbers,
    from_texts,
    joined,
)
from serving.protocols.tfserving.messages import (
    ClassifyRequest,
    ClassifyResponse,
    Example,
    Feature,
    ModelDescription,
    PredictRequest,
    PredictResponse,
    Signature,
)

ClassificationResponse = message("tensorflow.serving.ClassificationResponse")
GetModelMetadataResponse = message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusResponse = message("tensorflow.serving.GetModelStatusResponse")
_PredictResponse = message("tensorflow.serving.PredictResponse")
_SignatureDefMap = message("tensorflow.serving.SignatureDefMap")
TensorProto = message("tensorflow.TensorProto")
TensorShapeProto = message("tensorflow.TensorShapeProto")
_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType")
DATA_TYPE: dict[str, int] = {name: _TYPES.values_by_name[dtype.tensorflow].number for name, dtype in DTYPES.items()}
"""TensorFlow's number of each of our dtypes."""
_LIST = {
    "float16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
    "bytes": "string_val",
}
SIGNATURES = "signature_def"
_AVAILABLE, _LOADING = 30, 20
# A shape is only a claim until the elements are there: at most so many are made of one.
_MOST_FILLED = 1 << 20
_MOST_STRINGS = 1 << 10
_BITS = TensorSpec(name="", dtype="uint16", shape=[])


class ProtoInputs:
    """The map of a PredictRequest."""

    __slots__ = ("tensors",)

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors

    def read(self, signature: Signature) -> Tensors:
        names = [spec.name for spec in signature.inputs]
        if self.tensors.keys() != set(names):
            raise InvalidInputError(
                f"the inputs have to be {{{joined(names)}}}, not {{{joined(self.tensors)}}}, of which there are "
                f"{len(self.tensors)}"
            )
        return {spec.name: read_tensor(self.tensors[spec.name], spec, signature) for spec in signature.inputs}


def read_predict(request: Any) -> PredictRequest:
    """A PredictRequest."""
    return PredictRequest(request.model_spec.signature_name, ProtoInputs(request.inputs), request.output_filter)


def read_classify(request: Any) -> ClassifyRequest:
    """A ClassificationRequest.

    Raises:
        InvalidInputError: there are no examples.
    """
    kind = request.input.WhichOneof("kind")
    if kind is None:
        raise InvalidInputError("input: an example_list is required")
    given = getattr(request.input, kind)
    context = _features(given.context) if kind == "example_list_with_context" else {}
    return ClassifyRequest(
        request.model_spec.signature_name, [_features(example) for example in given.examples], context
    )


def _features(example: Any) -> Example:
    return {
        name: Feature(
            list(getattr(feature, kind).value) if (kind := feature.WhichOneof("kind")) else [], kind or "none"
        )
        for name, feature in example.features.feature.items()
    }


def read_tensor(proto: Any, spec: TensorSpec, signature: Signature) -> NDArray[Any]:
    """The elements of an input as an array.

    Raises:
        InvalidInputError: type, shape and number of elements do not agree with each other or with `spec`.
    """
    wanted = DATA_TYPE[spec.dtype]
    if proto.dtype != wanted:
        raise InvalidInputError(f"{spec.name}: expected {_type_name(wanted)}, not {_type_name(proto.dtype)}")
    if proto.tensor_shape.unknown_rank:
        raise InvalidInputError(f"{spec.name}: the shape is unknown")
    lengths = [dimension.size for dimension in proto.tensor_shape.dim]
    shape = check_shape(spec, lengths, has_rows=signature.has_rows)
    if DTYPES[spec.dtype].is_text:
        return from_texts(spec, _strings(proto, spec, math.prod(shape)), shape)
    if proto.tensor_content:
        return from_little_endian(spec, proto.tensor_content, shape)
    return _listed(proto, spec, math.prod(shape)).reshape(shape)


def _listed(proto: Any, spec: TensorSpec, count: int) -> NDArray[Any]:
    given = getattr(proto, _LIST[spec.dtype])
    if len(given) > count:
        raise InvalidInputError(f"{spec.name}: there are {len(given)} elements, the shape needs {count}")
    check_listed([(spec, len(given))])
    if spec.dtype == "float16":
        bits = _BITS.model_copy(update={"name": spec.name})
        values = from_numbers(bits, given, (len(given),)).view(np.float16)
    else:
        values = from_numbers(spec, given, (len(given),))
    # As TensorFlow does: a list that is too short goes on with its last element, an empty one is zeros.
    if len(values) == count:
        return values
    if count > _MOST_FILLED:
        raise InvalidInputError(f"{spec.name}: there are {len(values)} elements, the shape needs {count}")
    last = values[-1] if len(values) else values.dtype.type(0)
    return np.concatenate([values, np.full(count - len(values), last, values.dtype)])


def _strings(proto: Any, spec: TensorSpec, count: int) -> list[bytes]:
    if proto.tensor_content:
        check_listed([(spec, count)])
        return _packed(spec.name, proto.tensor_content, count)
    given = len(proto.string_val)
    check_listed([(spec, given)])
    if given > count or (given < count and count > _MOST_STRINGS):
        raise InvalidInputError(f"{spec.name}: there are {given} elements, the shape needs {count}")
    values = list(proto.string_val)
    return values + (values[-1:] or [b""]) * (count - len(values))


def _packed(name: str, content: bytes, count: int) -> list[bytes]:
    """The strings of `tensor_content`: all lengths as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    while len(lengths) < count:
        length = shift = 0
        while True:
            if at == len(content) or shift > 28:
                raise InvalidInputError(f"{name}: tensor_content does not hold {count} strings")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise InvalidInputError(f"{name}: tensor_content does not hold {count} strings")
    values = []
    for length in lengths:
        values.append(content[at : at + length])
        at += length
    return values


def _type_name(number: int) -> str:
    value = _TYPES.values_by_number.get(number)
    return value.name if value else f"type {number}"


def write_tensor(proto: Any, array: NDArray[Any], dtype: str) -> None:
    """Fill in an output, as a list: clients read `float_val` as often as they read the tensor."""
    proto.dtype = DATA_TYPE[dtype]
    _set_shape(proto.tensor_shape, array.shape)
    values = getattr(proto, _LIST[dtype])
    if array.dtype == object:
        values.extend(as_bytes(array))
    elif dtype == "float16":
        values.extend(np.ascontiguousarray(array, np.float16).view(np.uint16).ravel().tolist())
    else:
        values.extend(array.ravel().tolist())


def _set_shape(proto: Any, shape: Sequence[int | None]) -> None:
    for length in shape:
        proto.dim.add(size=-1 if length is None else length)


def write_spec(spec: Any, name: str, version: int, signature: str) -> None:
    """Fill in the ModelSpec of an answer."""
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature


def write_predict(answer: PredictResponse) -> Any:
    """A PredictResponse without its `model_spec`."""
    response = _PredictResponse()
    for spec in answer.signature.outputs:
        if spec.name in answer.outputs:
            write_tensor(response.outputs[spec.name], answer.outputs[spec.name], spec.dtype)
    return response


def write_classify(answer: ClassifyResponse) -> Any:
    """A ClassificationResponse without its `model_spec`."""
    response = ClassificationResponse()
    for row in answer.scores:
        classes = response.result.classifications.add().classes
        for label, score in zip(answer.labels, row, strict=True):
            classes.add(label=label, score=score)
    return response


def write_metadata(model: ModelDescription) -> Any:
    """A GetModelMetadataResponse."""
    signatures = _SignatureDefMap()
    for name, signature in model.signatures.items():
        described = signatures.signature_def[name]
        described.method_name = signature.method
        for tensors, specs in ((described.inputs, signature.inputs), (described.outputs, signature.outputs)):
            for spec in specs:
                info = tensors[spec.name]
                info.name = f"{name}_{spec.name}:0"
                info.dtype = DATA_TYPE[spec.dtype]
                _set_shape(info.tensor_shape, spec.shape)
    response = GetModelMetadataResponse()
    write_spec(response.model_spec, model.name, model.version, "")
    response.metadata[SIGNATURES].Pack(signatures)
    return response


def write_status(version: int, *, ready: bool) -> Any:
    """A GetModelStatusResponse."""
    response = GetModelStatusResponse()
    status = response.model_version_status.add(version=version, state=_AVAILABLE if ready else _LOADING)
    status.status.error_code = 0
    return response
