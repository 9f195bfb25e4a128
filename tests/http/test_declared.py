"""The methods that the service declares to BentoML, for code that calls it without HTTP."""

from __future__ import annotations

from typing import Any

import bentoml
import httpx
import numpy as np
import pytest

from serving.bento.api import Api
from serving.core.errors import InvalidInputError, NotFoundError
from tests.http.test_bad_input import PNG

pytestmark = pytest.mark.anyio

ROW = [5.1, 3.5, 1.4, 0.2]


async def test_the_declared_methods_predict_as_the_routes_do(running: Api, client: httpx.AsyncClient) -> None:
    service = bentoml.get_current_service()
    for path in ("predict", "predict/batched", "predict/label"):
        method = getattr(service, f"iris_{path.replace('/', '_')}")
        answer = await method(data=[ROW])
        expected = (await client.post(f"/iris/{path}", json={"data": [ROW]})).json()
        assert answer.model_dump() == expected
        # without the way through the server
        for data in ([ROW], np.array([ROW])):
            assert (await method.local(data=data)).model_dump() == expected
    assert running.models["iris"].tag.startswith("iris:")


async def test_the_declared_methods_raise_errors_of_ours(running: Api) -> None:
    for fields in ({}, {"data": [[1]]}, {"data": [ROW], "more": 1}):
        with pytest.raises(InvalidInputError):
            await running.call("iris", fields, batched=False, label=False)
    with pytest.raises(NotFoundError, match="there is no model wine"):
        await running.call("wine", {"data": [ROW]}, batched=False, label=False)


@pytest.mark.parametrize("path", ["predict", "predict/batched", "predict/label"])
async def test_a_picture_is_bytes_or_a_path(client: httpx.AsyncClient, tmp_path: Any, path: str) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    service = bentoml.get_current_service()
    method = getattr(service, f"inception_v3_{path.replace('/', '_')}")
    expected = (await client.post(f"/inception_v3/{path}", files={"image": PNG})).json()
    for image in (PNG, tmp_path / "cat.png"):
        assert (await method.local(image=image)).model_dump() == expected
