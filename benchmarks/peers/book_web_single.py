"""The book's web single pattern: FastAPI with `def` under gunicorn, one log line with a job id per request.

Of the input the book checks only that it is rows of numbers.
"""

from __future__ import annotations

import logging
import uuid

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.model import IrisModel

logging.basicConfig(level=logging.INFO, format="[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s")
logger = logging.getLogger(__name__)
MODEL = IrisModel()
app = FastAPI()


class Data(BaseModel):
    data: list[list[float]] = [[5.1, 3.5, 1.4, 0.2]]


@app.get("/readyz")
def readyz() -> dict[str, str]:
    return {"health": "ok"}


@app.post("/predict")
def predict(data: Data) -> dict[str, list[list[float]]]:
    job_id = str(uuid.uuid4())
    prediction = MODEL.predict(np.array(data.data, dtype=np.float32)).tolist()
    logger.info("%s: %s", job_id, prediction)
    return {"prediction": prediction}
