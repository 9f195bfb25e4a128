"""The services of the standard protocols over gRPC."""

from __future__ import annotations

from collections.abc import Callable

from serving.grpc.calls import Service
from serving.grpc.messages import INFERENCE, MODELS, PREDICTION
from serving.metrics import Metrics
from serving.model import Models
from serving.protocols.open_inference.grpc import InferenceService
from serving.protocols.open_inference.meaning import MISSING
from serving.protocols.tfserving.grpc import ModelService, PredictionService


def grpc_services(models: Models, *, metrics: Metrics, ready: Callable[[], bool]) -> dict[str, Service]:
    """For `serving.grpc.server.GrpcServer`.

    Args:
        ready: whether this server answers predictions.
    """
    inference = InferenceService(models, ready=ready, sums=metrics.inference_sums)
    prediction, status = PredictionService(models), ModelService(models)
    return {
        INFERENCE: Service(
            {
                "ModelInfer": inference.model_infer,
                "ServerLive": inference.server_live,
                "ServerReady": inference.server_ready,
                "ModelReady": inference.model_ready,
                "ServerMetadata": inference.server_metadata,
                "ModelMetadata": inference.model_metadata,
                "ModelConfig": inference.model_config,
                "ModelStatistics": inference.model_statistics,
                "RepositoryIndex": inference.repository_index,
            },
            streams={"ModelStreamInfer": (inference.model_stream_infer, inference.stream_refusal)},
            missing={method: missing.reason for missing in MISSING for method in missing.methods},
        ),
        PREDICTION: Service(
            {
                "Predict": prediction.predict,
                "Classify": prediction.classify,
                "GetModelMetadata": prediction.metadata,
            }
        ),
        MODELS: Service({"GetModelStatus": status.status}),
    }
