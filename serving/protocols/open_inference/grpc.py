"""The Open Inference Protocol's gRPC service, `inference.GRPCInferenceService`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving import __version__
from serving.core.errors import InvalidInputError
from serving.grpc.calls import GrpcCall
from serving.grpc.messages import message
from serving.protocols.open_inference import proto
from serving.protocols.open_inference.answer import classify
from serving.protocols.open_inference.documents import NAME, PLATFORM
from serving.protocols.open_inference.request import DATATYPES
from serving.protocols.served_models import LABEL, PROBABILITIES, ServedModel, ServedModels, Values
from serving.store.models import TensorSpec

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
        return ServerMetadataResponse(name=NAME, version=__version__, extensions=EXTENSIONS)

    async def model_metadata(self, request: Any, _call: GrpcCall) -> Any:
        model = self._models.find(request.name, request.version)
        response = ModelMetadataResponse(name=model.name, versions=[str(model.version)], platform=PLATFORM)
        for tensors, specs in ((response.inputs, model.inputs), (response.outputs, model.outputs)):
            for spec in specs:
                shape = [-1 if length is None else length for length in spec.shape]
                tensors.add(name=spec.name, datatype=DATATYPES[spec.dtype], shape=shape)
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
                shape = [len(probabilities), min(classes, len(model.labels))]
                ranked = classify(probabilities, model.labels, shape[1])
                proto.encode_strings(response, name, ranked, shape, raw=raw)
            elif name == LABEL:
                labels = model.most_probable(probabilities)
                proto.encode_strings(response, name, labels, [len(labels)], raw=raw)
            else:
                proto.encode_floats(response, name, probabilities, raw=raw)
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
    return proto.decode(tensor, raws[0] if raws else None, spec)


def _input(tensor: Any, model: ServedModel) -> TensorSpec:
    """The model's input that is meant."""
    specs = [spec for spec in model.inputs if spec.name == tensor.name]
    if not specs:
        raise InvalidInputError(f"there is no input {_short(tensor.name)}; there is {_names(model.inputs)}")
    # Pixels are also understood under the name of the images.
    for spec in specs if specs[0].dtype != "bytes" else model.inputs:
        if tensor.datatype == DATATYPES[spec.dtype]:
            return spec
    given = _short(tensor.datatype) or "(none)"
    raise InvalidInputError(f"{tensor.name}: the datatype has to be {DATATYPES[specs[0].dtype]}, not {given}")


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return " or ".join(spec.name for spec in specs)


def _wanted(request: Any, model: ServedModel) -> list[tuple[str, int]]:
    """Names of the outputs to send, each with the number of classes to name instead, 0 for the tensor itself."""
    classes = _classes(request.parameters)
    names = {spec.name for spec in model.outputs}
    if not request.outputs:
        return [(spec.name, classes if spec.name == PROBABILITIES else 0) for spec in model.outputs]
    wanted: dict[str, int] = {}
    for output in request.outputs:
        if output.name not in names:
            raise InvalidInputError(f"there is no output {_short(output.name)}; there is {_names(model.outputs)}")
        if output.name in wanted:
            raise InvalidInputError(f"the output {output.name} is asked for twice")
        _refuse_shared_memory(output)
        own = _classes(output.parameters)
        if own and output.name != PROBABILITIES:
            raise InvalidInputError(f"classification is for {PROBABILITIES}, not for {output.name}")
        wanted[output.name] = (own or classes) if output.name == PROBABILITIES else 0
    return list(wanted.items())


def _classes(parameters: Any) -> int:
    if "classification" not in parameters:
        return 0
    parameter = parameters["classification"]
    kind = parameter.WhichOneof("parameter_choice")
    classes: int = getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else -1
    if classes < 0:
        raise InvalidInputError("the parameter classification has to be a number of classes")
    return classes


def _refuse_shared_memory(tensor: Any) -> None:
    if any(name.startswith(_SHARED_MEMORY) for name in tensor.parameters):
        raise InvalidInputError(f"{tensor.name}: shared memory is not supported")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
