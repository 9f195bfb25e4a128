"""Predictions over gRPC, by the Open Inference Protocol or TensorFlow Serving's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from serving.client.answers import ApiError
from serving.client.arrays import to_arrays, to_predictions
from serving.client.description import Description
from serving.client.exchange import Exchange, GrpcRequest, reading
from serving.client.inputs import Inputs
from serving.client.open_inference import BinaryTensor, read_outputs, wanted_outputs, write_inputs
from serving.client.predictions import Prediction, best
from serving.core.tensors import DTYPES
from serving.grpc.messages import INFERENCE, POOL, PREDICTION, message
from serving.protocols.open_inference.messages import INTERFACE
from serving.protocols.tensors import as_bytes, as_little_endian
from serving.protocols.tfserving.proto import DATA_TYPE

_DTYPES = {number: name for name, number in DATA_TYPE.items() if name != "bytes"}
_TO_DICT: Callable[..., dict[str, Any]] = MessageToDict


def _request(service: str, method: str, request: Any) -> GrpcRequest:
    return GrpcRequest(f"/{service}/{method}", request.SerializeToString())


def _read(name: str, answer: bytes) -> Any:
    """Raises ValueError where it is not such a message."""
    try:
        return message(name).FromString(answer)
    except DecodeError as error:
        raise ValueError(f"it is no {name}") from error


class GrpcDialect:
    """What both have in common: the configuration of a model says what it is."""

    def describe(self, model: str) -> Exchange[Description]:
        request = _request(INFERENCE, "ModelConfig", message("inference.ModelConfigRequest")(name=model))
        answer = yield request
        with reading(request, "no configuration of a model"):
            parameters = _read("inference.ModelConfigResponse", answer).config.parameters
            if INTERFACE not in parameters:
                raise ApiError(
                    200,
                    "not_understood",
                    f"the configuration of {model} has no parameter {INTERFACE}: the server is older than this client, "
                    "or another program",
                )
            return Description.read(json.loads(parameters[INTERFACE].string_value))

    def default_model(self) -> Exchange[str]:
        """Over gRPC no model is the default one, unless there is only one."""
        request = _request(INFERENCE, "RepositoryIndex", message("inference.RepositoryIndexRequest")())
        answer = yield request
        with reading(request, "no list of models"):
            names = [model.name for model in _read("inference.RepositoryIndexResponse", answer).models]
        if len(names) != 1:
            raise ValueError(f"name a model; the server has {', '.join(names) or 'none'}")
        return str(names[0])

    @staticmethod
    def _as_json(request: GrpcRequest, name: str, answer: bytes) -> dict[str, Any]:
        with reading(request, "no metadata"):
            return _TO_DICT(_read(name, answer), preserving_proto_field_name=True, descriptor_pool=POOL)


class OpenInferenceGrpc(GrpcDialect):
    """Tensors go and come in binary form."""

    def metadata(self, model: str) -> Exchange[dict[str, Any]]:
        request = _request(INFERENCE, "ModelMetadata", message("inference.ModelMetadataRequest")(name=model))
        answer = yield request
        return self._as_json(request, "inference.ModelMetadataResponse", answer)

    def predict(self, description: Description, inputs: Inputs) -> Exchange[list[Prediction]]:
        inputs.check(description)
        infer = message("inference.ModelInferRequest")(model_name=description.name)
        for tensor in write_inputs(description, inputs):
            infer.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            infer.raw_input_contents.append(tensor.data)
        for name, classes in wanted_outputs(description, inputs):
            output = infer.outputs.add(name=name)
            if classes:
                output.parameters["classification"].int64_param = classes
        request = _request(INFERENCE, "ModelInfer", infer)
        answer = yield request
        with reading(request):
            response = _read("inference.ModelInferResponse", answer)
            answered = [
                BinaryTensor(output.name, output.datatype, output.shape, data)
                for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
            ]
            return read_outputs(answered, description, inputs)


class TfservingGrpc(GrpcDialect):
    """Classify where there are classes, else Predict."""

    def metadata(self, model: str) -> Exchange[dict[str, Any]]:
        asked = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=["signature_def"])
        asked.model_spec.name = model
        request = _request(PREDICTION, "GetModelMetadata", asked)
        answer = yield request
        return self._as_json(request, "tensorflow.serving.GetModelMetadataResponse", answer)

    def predict(self, description: Description, inputs: Inputs) -> Exchange[list[Prediction]]:
        inputs.check(description)
        arrays = to_arrays(inputs, description)
        if description.ranks:
            return (yield from self._classify(description, arrays, inputs.top_k))
        predict = message("tensorflow.serving.PredictRequest")()
        predict.model_spec.name = description.name
        for name, array in arrays.items():
            _write_tensor(predict.inputs[name], array)
        predict.output_filter.extend(output.name for output in description.wanted)
        request = _request(PREDICTION, "Predict", predict)
        answer = yield request
        with reading(request):
            outputs = _read("tensorflow.serving.PredictResponse", answer).outputs
            found = {output.name: _read_tensor(outputs[output.name]) for output in description.wanted}
            return to_predictions(found, description, inputs)

    @staticmethod
    def _classify(
        description: Description, arrays: dict[str, NDArray[Any]], top_k: int | None
    ) -> Exchange[list[Prediction]]:
        classify = message("tensorflow.serving.ClassificationRequest")()
        classify.model_spec.name = description.name
        for row in range(len(next(iter(arrays.values())))):
            features = classify.input.example_list.examples.add().features.feature
            for name, array in arrays.items():
                _write_feature(features[name], array[row : row + 1])
        request = _request(PREDICTION, "Classify", classify)
        answer = yield request
        with reading(request):
            result = _read("tensorflow.serving.ClassificationResponse", answer).result
            return [best([(each.label, each.score) for each in row.classes], top_k) for row in result.classifications]


def _write_feature(feature: Any, values: NDArray[Any]) -> None:
    """The values of one row, in the list of their type."""
    if values.dtype == object:
        feature.bytes_list.value.extend(as_bytes(values))
    elif values.dtype.kind == "f":
        feature.float_list.value.extend(values.ravel().tolist())
    else:
        feature.int64_list.value.extend(values.ravel().tolist())


def _write_tensor(tensor: Any, array: NDArray[Any]) -> None:
    for length in array.shape:
        tensor.tensor_shape.dim.add(size=length)
    if array.dtype == object:
        tensor.dtype = DATA_TYPE["string"]
        tensor.string_val.extend(as_bytes(array))
    else:
        tensor.dtype = DATA_TYPE[array.dtype.name]
        tensor.tensor_content = as_little_endian(array)


def _read_tensor(tensor: Any) -> NDArray[Any]:
    dtype = DTYPES[_DTYPES[tensor.dtype]]
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype.numpy.newbyteorder("<")).astype(dtype.numpy).reshape(shape)
    values = next((list(values) for field, values in tensor.ListFields() if field.name.endswith("_val")), [])
    if dtype.is_text:
        values = [value.decode() for value in values]
    if dtype.name == "float16":  # as the bits of each number
        return np.array(values, np.uint16).view(np.float16).reshape(shape)
    return np.array(values, dtype.numpy).reshape(shape)
