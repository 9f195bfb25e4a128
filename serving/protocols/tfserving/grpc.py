"""TensorFlow Serving's gRPC API: `PredictionService` and `ModelService`, with its status codes and words."""

from __future__ import annotations

from typing import Any

from serving.core.errors import InvalidInputError
from serving.core.validation import shortened
from serving.grpc.calls import GrpcCall
from serving.model import Models
from serving.protocols.tfserving import proto
from serving.protocols.tfserving.meaning import Meaning, Meanings


class PredictionService:
    """`tensorflow.serving.PredictionService` without Regress and MultiInference: no model here has such signatures."""

    def __init__(self, models: Models) -> None:
        self._meanings = Meanings(models)

    async def predict(self, request: Any, call: GrpcCall) -> Any:
        """Tensors in and out, by the names of a signature."""
        found = _find(self._meanings, request.model_spec)
        call.model = found.model.tag
        answer = await found.predict(proto.read_predict(request), call)
        response = proto.write_predict(answer)
        proto.write_spec(response.model_spec, found.model.name, found.model.version, answer.signature_name)
        return response

    async def classify(self, request: Any, call: GrpcCall) -> Any:
        """Every class with its score, in the order of their ids, for each example."""
        found = _find(self._meanings, request.model_spec)
        call.model = found.model.tag
        answer = await found.classify(proto.read_classify(request), call)
        response = proto.write_classify(answer)
        proto.write_spec(response.model_spec, found.model.name, found.model.version, answer.signature_name)
        return response

    async def metadata(self, request: Any, _call: GrpcCall) -> Any:
        """The signatures of a model."""
        found = _find(self._meanings, request.model_spec)
        if not request.metadata_field:
            raise InvalidInputError("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != proto.SIGNATURES:
                raise InvalidInputError(
                    f"Metadata field {shortened(field)} is not supported; there is {proto.SIGNATURES}"
                )
        return proto.write_metadata(found.describe())


class ModelService:
    """`tensorflow.serving.ModelService` without HandleReloadConfigRequest."""

    def __init__(self, models: Models) -> None:
        self._meanings = Meanings(models)

    async def status(self, request: Any, _call: GrpcCall) -> Any:
        """The version that is served, and whether it answers."""
        model = _find(self._meanings, request.model_spec).model
        return proto.write_status(model.version, ready=model.ready)


def _find(meanings: Meanings, spec: Any) -> Meaning:
    """The model that a ModelSpec names."""
    choice = spec.WhichOneof("version_choice")
    return meanings.find(
        spec.name,
        version=str(spec.version.value) if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
    )
