"""The Open Inference Protocol's gRPC service, `inference.GRPCInferenceService`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.grpc.calls import GrpcCall
from serving.grpc.messages import message
from serving.metrics.inference import Sums
from serving.model import Models
from serving.protocols.open_inference import meaning
from serving.protocols.open_inference.meaning import Meanings
from serving.protocols.open_inference.proto import (
    ModelInferResponse,
    ModelStreamInferResponse,
    from_struct,
    read_request,
    write_response,
)

ModelConfigResponse = message("inference.ModelConfigResponse")
ModelMetadataResponse = message("inference.ModelMetadataResponse")
ModelReadyResponse = message("inference.ModelReadyResponse")
ModelStatisticsResponse = message("inference.ModelStatisticsResponse")
RepositoryIndexResponse = message("inference.RepositoryIndexResponse")
ServerLiveResponse = message("inference.ServerLiveResponse")
ServerMetadataResponse = message("inference.ServerMetadataResponse")
ServerReadyResponse = message("inference.ServerReadyResponse")
_FINAL = "triton_final_response"
_ModelConfig = message("inference.ModelConfig")
_ModelIndex = message("inference.RepositoryIndexResponse.ModelIndex")
_ModelStatistics = message("inference.ModelStatistics")


class InferenceService:
    """The methods of the service.

    Args:
        ready: whether this server answers predictions.
        sums: what the standard protocols asked of a model, from its name.
    """

    def __init__(self, models: Models, *, ready: Callable[[], bool], sums: Callable[[str], Sums]) -> None:
        self._meanings = Meanings(models, sums=sums)
        self._ready = ready

    async def server_live(self, _request: Any, _call: GrpcCall) -> Any:
        return ServerLiveResponse(live=True)

    async def server_ready(self, _request: Any, _call: GrpcCall) -> Any:
        return ServerReadyResponse(ready=self._ready())

    async def model_ready(self, request: Any, _call: GrpcCall) -> Any:
        return ModelReadyResponse(ready=self._meanings.find(request.name, request.version).model.ready)

    async def server_metadata(self, _request: Any, _call: GrpcCall) -> Any:
        return from_struct(ServerMetadataResponse, meaning.server())

    async def model_metadata(self, request: Any, _call: GrpcCall) -> Any:
        return from_struct(ModelMetadataResponse, self._meanings.find(request.name, request.version).metadata())

    async def model_config(self, request: Any, _call: GrpcCall) -> Any:
        found = self._meanings.find(request.name, request.version)
        return ModelConfigResponse(config=from_struct(_ModelConfig, found.config()))

    async def model_statistics(self, request: Any, _call: GrpcCall) -> Any:
        """Of one model, or of all where no name is given."""
        found = [self._meanings.find(request.name, request.version)] if request.name else list(self._meanings)
        statistics = await self._meanings.statistics(found)
        return ModelStatisticsResponse(model_stats=[from_struct(_ModelStatistics, each) for each in statistics])

    async def repository_index(self, request: Any, _call: GrpcCall) -> Any:
        entries = self._meanings.index(only_ready=request.ready)
        return RepositoryIndexResponse(models=[from_struct(_ModelIndex, entry) for entry in entries])

    async def model_infer(self, request: Any, call: GrpcCall) -> Any:
        """Predict named tensors; the answer is raw where the request is."""
        found = self._meanings.find(request.model_name, request.model_version)
        call.model = found.model.tag
        return write_response(await found.infer(read_request(request), call))

    async def model_stream_infer(self, request: Any, call: GrpcCall) -> Any:
        """The answer to one request of a stream. It is the only one; clients may wait for the mark that says so."""
        answer = await self.model_infer(request, call)
        answer.parameters[_FINAL].bool_param = True
        return ModelStreamInferResponse(infer_response=answer)

    @staticmethod
    def stream_refusal(request: Any, error: str) -> Any:
        """The answer to a request of a stream that failed; the id tells the client which one it was."""
        answer = ModelInferResponse() if request is None else ModelInferResponse(id=request.id)
        return ModelStreamInferResponse(error_message=error, infer_response=answer)
