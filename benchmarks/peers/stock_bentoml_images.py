"""The image model behind BentoML's `batchable=True`, default configuration: decoded here, predicted in a runner.

The request is the one of this service, a JPEG as the raw body, and so is the answer.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import ContentType
from numpy.typing import NDArray
from PIL import Image

SIZE = (299, 299)
TOP_K = 5


@bentoml.service
class StockImageRunner:
    def __init__(self) -> None:
        from benchmarks.peers.model import ImageModel

        self.model = ImageModel()

    @bentoml.api(batchable=True)
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.model.predict(images)


@bentoml.service
class StockImages:
    runner = bentoml.depends(StockImageRunner)

    @bentoml.api
    async def predict(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, list[dict[str, Any]]]:
        array = await asyncio.to_thread(_load, image)
        (probabilities,) = await self.runner.to_async.predict(images=array[np.newaxis])
        best = np.argsort(-probabilities, kind="stable")[:TOP_K]
        return {
            "predictions": [
                {"label": f"class {index}", "class_id": int(index), "probability": float(probabilities[index])}
                for index in best
            ]
        }


def _load(path: Path) -> NDArray[np.uint8]:
    """uint8 `[299, 299, 3]`, RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR))
