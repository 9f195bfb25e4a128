"""TensorFlow Serving's gRPC API: `PredictionService` and `ModelService`, with its status codes and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.core.errors import InvalidInputError, NotFoundError
from serving.core.ranking import Probabilities
from serving.grpc.calls import GrpcCall
from serving.grpc.messages import message
from serving.protocols.served_models import (
    CLASSIFY,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    PREDICT,
    ServedModel,
    ServedModels,
    Signature,
)
from serving.protocols.tfserving import examples, proto

PredictResponse = message("tensorflow.serving.PredictResponse")
ClassificationResponse = message("tensorflow.serving.ClassificationResponse")
GetModelMetadataResponse = message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusResponse = message("tensorflow.serving.GetModelStatusResponse")
SignatureDefMap = message("tensorflow.serving.SignatureDefMap")
_AVAILABLE, _LOADING = 30, 20
_SIGNATURES = "signature_def"
_LONGEST_NAME = 64


class PredictionService:
    """`tensorflow.serving.PredictionService` without Regress and MultiInference: no model here has such signatures."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    async def predict(self, request: Any, call: GrpcCall) -> Any:
        """Tensors in and out, by the names of a signature."""
        model = find(self._models, request.model_spec)
        call.model = model.tag
        signature = _signature(model, request.model_spec.signature_name or DEFAULT_SIGNATURE, PREDICT)
        wanted = _wanted(request.output_filter, signature)
        (spec,) = signature.inputs
        if request.inputs.keys() != {spec.name}:
            raise InvalidInputError(
                f"the inputs have to be {{{spec.name}}}, not {{{_joined(request.inputs)}}}, of which there are "
                f"{len(request.inputs)}"
            )
        probabilities = await model.predict(proto.decode(request.inputs[spec.name], spec), call)
        response = PredictResponse()
        _answer_spec(response.model_spec, model, request.model_spec.signature_name or DEFAULT_SIGNATURE)
        for output in signature.outputs:
            if output.name in wanted:
                _fill(response.outputs[output.name], output.dtype, model, probabilities)
        return response

    async def classify(self, request: Any, call: GrpcCall) -> Any:
        """Every class with its score, in the order of their ids, for each example."""
        model = find(self._models, request.model_spec)
        call.model = model.tag
        name = request.model_spec.signature_name or CLASSIFY_SIGNATURE
        _signature(model, name, CLASSIFY)
        probabilities = await model.predict(examples.decode(request.input, model), call)
        response = ClassificationResponse()
        _answer_spec(response.model_spec, model, name)
        for row in probabilities.tolist():
            classes = response.result.classifications.add().classes
            for label, score in zip(model.labels, row, strict=True):
                classes.add(label=label, score=score)
        return response

    async def metadata(self, request: Any, _call: GrpcCall) -> Any:
        """The signatures of a model."""
        model = find(self._models, request.model_spec)
        if not request.metadata_field:
            raise InvalidInputError("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise InvalidInputError(f"Metadata field {_short(field)} is not supported; there is {_SIGNATURES}")
        signatures = SignatureDefMap()
        for name, signature in model.signatures.items():
            described = signatures.signature_def[name]
            described.method_name = signature.method
            for tensors, specs in ((described.inputs, signature.inputs), (described.outputs, signature.outputs)):
                for spec in specs:
                    proto.describe(tensors[spec.name], spec, name=f"{name}_{spec.name}:0")
        response = GetModelMetadataResponse()
        _answer_spec(response.model_spec, model, "")
        response.metadata[_SIGNATURES].Pack(signatures)
        return response


class ModelService:
    """`tensorflow.serving.ModelService` without HandleReloadConfigRequest."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    async def status(self, request: Any, _call: GrpcCall) -> Any:
        """The version that is served, and whether it answers."""
        model = find(self._models, request.model_spec)
        response = GetModelStatusResponse()
        status = response.model_version_status.add(version=model.version, state=_AVAILABLE if model.ready else _LOADING)
        status.status.error_code = 0
        return response


def find(models: ServedModels, spec: Any) -> ServedModel:
    """The model that a ModelSpec names.

    Raises:
        InvalidInputError: it names none, or a label that there is not.
        NotFoundError: the model or this version of it is not served.
    """
    if not spec.name:
        raise InvalidInputError("Missing ModelSpec: a model name is required")
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    try:
        model = models.get(spec.name, version=version)
    except NotFoundError as error:
        asked = f"Latest({_short(spec.name)})" if version is None else f"Specific({_short(spec.name)}, {version})"
        raise NotFoundError(f"Servable not found for request: {asked}") from error
    if choice == "version_label" and spec.version_label not in model.version_labels:
        raise InvalidInputError(f"Unrecognized servable version label: {_short(spec.version_label)}")
    return model


def _signature(model: ServedModel, name: str, method: str) -> Signature:
    signature = model.signatures.get(name)
    if signature is None:
        raise InvalidInputError(
            f'Serving signature key "{_short(name)}" not found; there is {_joined(model.signatures)}'
        )
    if signature.method != method:
        raise InvalidInputError(f"the method of signature {name} is {signature.method}, not {method}")
    return signature


def _wanted(names: Sequence[str], signature: Signature) -> set[str]:
    """The outputs to send."""
    known = {output.name for output in signature.outputs}
    if not names:
        return known
    for name in names:
        if name not in known:
            raise InvalidInputError(
                f"output tensor alias not found in signature: {_short(name)}; there is {_joined(sorted(known))}"
            )
    if len(set(names)) < len(names):
        raise InvalidInputError("duplicate output tensor alias in output_filter")
    return set(names)


def _fill(proto: Any, dtype: str, model: ServedModel, probabilities: Probabilities) -> None:
    if dtype == "bytes":
        proto.encode_strings(proto, model.most_probable(probabilities))
    else:
        proto.encode_floats(proto, probabilities)


def _answer_spec(spec: Any, model: ServedModel, signature: str) -> None:
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature


def _joined(names: Any) -> str:
    """Some names of the caller's or of ours, as a message repeats them."""
    return ", ".join(_short(name) for name in list(names)[:5])


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
