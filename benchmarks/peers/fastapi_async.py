"""FastAPI as its own documentation would write it for speed: `async def`, pydantic models, uvicorn, no access log."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field

from benchmarks.peers.model import IrisModel

MODEL = IrisModel()
app = FastAPI()

Feature = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Feature], Field(min_length=4, max_length=4)]


class Request(BaseModel):
    data: Annotated[list[Row], Field(min_length=1, max_length=1024)]


class Prediction(BaseModel):
    prediction: list[list[float]]


@app.get("/readyz")
async def readyz() -> str:
    return "ready"


@app.post("/predict")
async def predict(request: Request) -> Prediction:
    return Prediction(prediction=MODEL.predict(np.array(request.data, dtype=np.float32)).tolist())
