"""The contract of the prediction routes in Python."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from serving.http.schemas import (
    Classification,
    ImageLabel,
    ImageRequest,
    IrisLabels,
    IrisProbabilities,
    IrisRequest,
    RankedImageRequest,
)

from serving.http import schemas
from serving.settings import get_settings

EXPECTED = {
    "/iris/predict": (IrisRequest, IrisProbabilities),
    "/iris/predict/label": (IrisRequest, IrisLabels),
    "/iris/predict/batched": (IrisRequest, IrisProbabilities),
    "/inception_v3/predict": (RankedImageRequest, Classification),
    "/inception_v3/predict/label": (ImageRequest, ImageLabel),
    "/inception_v3/predict/batched": (RankedImageRequest, Classification),
}


@pytest.mark.usefixtures("app")
@pytest.mark.anyio
async def test_each_route_has_its_declared_request_and_answer() -> None:
    import service

    declared: dict[str, Any] = {
        api.route: (api.input_spec, api.output_spec.__bases__[-1]) for api in service.svc.apis.values()
    }
    assert declared == EXPECTED


@pytest.mark.parametrize("name", sorted(schemas.__all__))
def test_what_the_document_shows_is_described(name: str) -> None:
    if name != "Candidate":
        assert inspect.getdoc(getattr(schemas, name))


def test_the_limit_of_rows_is_the_settings() -> None:
    (limit,) = [
        item.max_length for item in IrisRequest.model_fields["data"].metadata if getattr(item, "max_length", None)
    ]
    assert limit == get_settings().iris.max_rows
