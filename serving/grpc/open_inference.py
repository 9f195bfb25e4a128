"""The Open Inference Protocol's gRPC service, `inference.GRPCInferenceService`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from serving import __version__
from serving.api.served_models import ServedModel, ServedModels, Values
from serving.errors import InvalidInputError
from serving.grpc import inference_tensors
from serving.grpc.calls import GrpcCall
from serving.grpc.inference_tensors import DATATYPE
from serving.grpc.messages import message
from serving.models import TensorSpec
from serving.predictions import Probabilities

SERVER_NAME = "model_serving"
EXTENSIONS = ("classification", "model_repository")
ModelInferResponse = message("inference.ModelInferResponse")
ModelMetadataResponse = message("inference.ModelMetadataResponse")
ModelReadyResponse = message("inference.ModelReadyResponse")
RepositoryIndexResponse = message("inference.RepositoryIndexResponse")
ServerLiveResponse = message("inference.ServerLiveResponse")
ServerMetadataResponse = message("inference.ServerMetadataResponse")
ServerReadyResponse = message("inference.ServerReadyResponse")
_LONGEST_NAME = 64
_SHARED_MEMORY = "shared_memory_"


class InferenceService:
    """The methods of the service.

    Args:
        ready: whether this server answers predictions.
    """

    def __init__(self, models: ServedModels, *, ready: Callable[[], bool]) -> None:
        self._models = models
        self._ready = ready

    async def server_live(self, _request: Any, _call: GrpcCall) -> Any:
        return ServerLiveResponse(live=True)

    async def server_ready(self, _request: Any, _call: GrpcCall) -> Any:
        return ServerReadyResponse(ready=self._ready())

    async def model_ready(self, request: Any, _call: GrpcCall) -> Any:
        return ModelReadyResponse(ready=self._models.find(request.name, request.version).ready)

    async def server_metadata(self, _request: Any, _call: GrpcCall) -> Any:
        return ServerMetadataResponse(name=SERVER_NAME, version=__version__, extensions=EXTENSIONS)

    async def model_metadata(self, request: Any, _call: GrpcCall) -> Any:
        model = self._models.find(request.name, request.version)
        response = ModelMetadataResponse(
            name=model.name, versions=[str(model.version)], platform=f"{model.stored.metadata.format}_onnxruntime"
        )
        for tensors, specs in ((response.inputs, model.inputs), (response.outputs, model.outputs)):
            for spec in specs:
                shape = [-1 if length is None else length for length in spec.shape]
                tensors.add(name=spec.name, datatype=DATATYPE[spec.dtype], shape=shape)
        return response

    async def repository_index(self, request: Any, _call: GrpcCall) -> Any:
        response = RepositoryIndexResponse()
        for model in self._models:
            if model.ready or not request.ready:
                response.models.add(
                    name=model.name,
                    version=str(model.version),
                    state="READY" if model.ready else "UNAVAILABLE",
                    reason="" if model.ready else "the model is not available just now",
                )
        return response

    async def model_infer(self, request: Any, call: GrpcCall) -> Any:
        """Predict one input tensor; the answer is raw where the request was."""
        model = self._models.find(request.model_name, request.model_version)
        call.model = model.tag
        wanted = _wanted(request, model)
        probabilities = await model.predict(_values(request, model), call)
        response = ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request.id)
        raw = bool(request.raw_input_contents)
        for name, classes in wanted:
            if classes:
                ranked = _ranked(probabilities, model, classes)
                shape = [len(probabilities), min(classes, len(model.labels))]
                inference_tensors.encode_strings(response, name, ranked, shape, raw=raw)
            elif name == model.outputs[-1].name:
                labels = [label.encode() for label in model.most_probable(probabilities)]
                inference_tensors.encode_strings(response, name, labels, [len(labels)], raw=raw)
            else:
                inference_tensors.encode_floats(response, name, probabilities, raw=raw)
        return response


def _values(request: Any, model: ServedModel) -> Values:
    inputs, raws = request.inputs, request.raw_input_contents
    if len(inputs) != 1:
        raise InvalidInputError(f"one input is required ({_names(model.inputs)}), not {len(inputs)}")
    (tensor,) = inputs
    spec = _input(tensor, model)
    _refuse_shared_memory(tensor)
    if raws and len(raws) != len(inputs):
        raise InvalidInputError(f"raw_input_contents has {len(raws)} parts for {len(inputs)} input")
    if raws and tensor.HasField("contents"):
        raise InvalidInputError(f"{spec.name}: either contents or raw_input_contents, not both")
    return inference_tensors.decode(tensor, raws[0] if raws else None, spec)


def _input(tensor: Any, model: ServedModel) -> TensorSpec:
    """The model's input that is meant."""
    specs = [spec for spec in model.inputs if spec.name == tensor.name]
    if not specs:
        raise InvalidInputError(f"there is no input {_short(tensor.name)}; there is {_names(model.inputs)}")
    # Pixels are also understood under the name of the images.
    for spec in specs if specs[0].dtype != "bytes" else model.inputs:
        if tensor.datatype == DATATYPE[spec.dtype]:
            return spec
    given = _short(tensor.datatype) or "(none)"
    raise InvalidInputError(f"{tensor.name}: the datatype has to be {DATATYPE[specs[0].dtype]}, not {given}")


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return " or ".join(spec.name for spec in specs)


def _wanted(request: Any, model: ServedModel) -> list[tuple[str, int]]:
    """Names of the outputs to send, each with the number of classes to name instead, 0 for the tensor itself."""
    if not request.outputs:
        return [(spec.name, 0) for spec in model.outputs]
    dtypes = {spec.name: spec.dtype for spec in model.outputs}
    wanted: dict[str, int] = {}
    for output in request.outputs:
        if output.name not in dtypes:
            raise InvalidInputError(f"there is no output {_short(output.name)}; there is {', '.join(dtypes)}")
        if output.name in wanted:
            raise InvalidInputError(f"the output {output.name} is asked for twice")
        _refuse_shared_memory(output)
        wanted[output.name] = _classes(output, dtypes[output.name])
    return list(wanted.items())


def _classes(output: Any, dtype: str) -> int:
    if "classification" not in output.parameters:
        return 0
    parameter = output.parameters["classification"]
    if parameter.WhichOneof("parameter_choice") not in ("int64_param", "uint64_param"):
        raise InvalidInputError(f"{output.name}: classification has to be a whole number")
    classes: int = getattr(parameter, parameter.WhichOneof("parameter_choice"))
    if classes < 1:
        raise InvalidInputError(f"{output.name}: classification has to be at least 1")
    if dtype == "bytes":
        raise InvalidInputError(f"{output.name}: only probabilities can be classified")
    return classes


def _ranked(probabilities: Probabilities, model: ServedModel, classes: int) -> list[bytes]:
    """The best classes of each row as `probability:id:label`."""
    # Stable, so that equal probabilities come in the order of their ids.
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :classes]
    return [
        f"{row[index]:f}:{index}:{model.labels[index]}".encode()
        for row, indices in zip(probabilities.tolist(), best.tolist(), strict=True)
        for index in indices
    ]


def _refuse_shared_memory(tensor: Any) -> None:
    if any(name.startswith(_SHARED_MEMORY) for name in tensor.parameters):
        raise InvalidInputError(f"{tensor.name}: shared memory is not supported")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
