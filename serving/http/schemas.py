"""Requests and answers of the prediction routes: the contract that `/docs.json` and the SDK show.

BentoML takes the fields from here; `from_http_request` decodes by this project's rules. BentoML's own decoder
would fetch a URL that stands in the place of a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import bentoml
from bentoml.validators import ContentType
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from serving.http.decoding import ImageBody, RankedImageBody, Row, RowsDecoder, TopK, read_image, require_json
from serving.settings import get_settings

__all__ = [
    "Candidate",
    "Classification",
    "ImageBody",
    "ImageLabel",
    "ImageRequest",
    "IrisLabels",
    "IrisProbabilities",
    "IrisRequest",
    "RankedImageBody",
    "RankedImageRequest",
]

SAMPLE_ROW = [5.1, 3.5, 1.4, 0.2]
DEFAULT_TOP_K = 5

# BentoML's decorators want the limits while the class is made, so the settings are read here.
_MAX_ROWS = get_settings().iris.max_rows

rows_decoder = RowsDecoder(_MAX_ROWS)


class IrisRequest(bentoml.IODescriptor):
    """Rows of sepal length, sepal width, petal length and petal width, in cm."""

    model_config = ConfigDict(extra="forbid")
    # A docstring here is the schema's description, so this is not in it: a handler gets `data` as float32 `[N, 4]`.

    data: Annotated[list[Row], Field(min_length=1, max_length=_MAX_ROWS, examples=[[SAMPLE_ROW]])]

    @classmethod
    async def from_http_request(cls, request: Request, _serde: Any) -> Self:
        require_json(request)
        return cls.model_construct(data=rows_decoder.explain(await request.body()))


class IrisProbabilities(BaseModel):
    """For each row the probabilities of setosa, versicolor and virginica."""

    prediction: list[list[float]] = Field(examples=[[[0.97, 0.02, 0.01]]])


class IrisLabels(BaseModel):
    """For each row the most probable species."""

    prediction: list[str] = Field(examples=[["setosa"]])


class ImageRequest(bentoml.IODescriptor):
    """An image file."""

    model_config = ConfigDict(extra="forbid")
    json_body: ClassVar[type[ImageBody]] = ImageBody

    # A handler gets it as bytes.
    image: Annotated[Path, ContentType("image/*")]

    @classmethod
    async def from_http_request(cls, request: Request, _serde: Any) -> Self:
        content, top_k = await read_image(request, cls.json_body)
        return cls.model_construct(image=content, top_k=top_k or DEFAULT_TOP_K)


class RankedImageRequest(ImageRequest):
    """An image file and how many classes to name."""

    json_body: ClassVar[type[ImageBody]] = RankedImageBody

    top_k: TopK = DEFAULT_TOP_K


class Candidate(BaseModel):
    label: str
    class_id: int
    probability: float


class Classification(BaseModel):
    """The most probable classes, best first."""

    predictions: list[Candidate]


class ImageLabel(BaseModel):
    """The most probable class."""

    prediction: str
