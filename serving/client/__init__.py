"""A client of the jobs API that rides out what goes wrong on the way.

    with Client("http://127.0.0.1:3000") as client:
        job = client.submit("iris", rows=[[5.1, 3.5, 1.4, 0.2]])
        print(client.result(job.id, timeout=60))

It needs httpx and the standard library, neither BentoML nor NumPy.
"""

from __future__ import annotations

from serving.client.answers import ApiError, ClientError, Job, JobFailedError, UnreachableError, WaitTimeoutError
from serving.client.client import Client
from serving.errors import ErrorDetail
from serving.jobs.job import JobError, ModelStats, Status

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "ErrorDetail",
    "Job",
    "JobError",
    "JobFailedError",
    "ModelStats",
    "Status",
    "UnreachableError",
    "WaitTimeoutError",
]
