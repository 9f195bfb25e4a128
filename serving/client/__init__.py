"""A client of the jobs API that rides out what goes wrong on the way, and one for predictions by any protocol.

    with Client("http://127.0.0.1:3000") as client:
        job = client.submit("iris", rows=[[5.1, 3.5, 1.4, 0.2]])
        print(client.result(job.id, timeout=60))

    with Predictor("127.0.0.1:3000", protocol="v2") as predictor:
        (prediction,) = predictor.predict("iris", rows=[[5.1, 3.5, 1.4, 0.2]])
        print(prediction.label)

They need httpx and the standard library, not BentoML; NumPy only for tensors and for the standard protocols. What a
model takes and gives they ask the server.
"""

from __future__ import annotations

from serving.client.answers import ApiError, ClientError, Job, JobFailedError, UnreachableError, WaitTimeoutError
from serving.client.client import Client
from serving.client.description import Description, Tensor
from serving.client.predict import AsyncPredictor, Predictor
from serving.client.predictions import Candidate, Prediction, ProtocolName
from serving.core.errors import ErrorDetail
from serving.jobs.job import JobError, ModelStats, Status

__all__ = [
    "ApiError",
    "AsyncPredictor",
    "Candidate",
    "Client",
    "ClientError",
    "Description",
    "ErrorDetail",
    "Job",
    "JobError",
    "JobFailedError",
    "ModelStats",
    "Prediction",
    "Predictor",
    "ProtocolName",
    "Status",
    "Tensor",
    "UnreachableError",
    "WaitTimeoutError",
]
