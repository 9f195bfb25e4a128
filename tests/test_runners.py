"""The runners as services of their own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest

from serving.models import open_model
from tests.process_state import kept_metrics, kept_process

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def runner(model_store: Path) -> AsyncIterator[httpx.AsyncClient]:  # noqa: ARG001
    """A client of the iris runner's own application, batching included."""
    from serving.runners import IrisRunner

    with kept_metrics():
        with kept_process():
            app = IrisRunner.to_asgi(is_main=False)
            lifespan = app.router.lifespan_context(app)
            await lifespan.__aenter__()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            yield client
        await lifespan.__aexit__(None, None, None)


ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]]


async def _post(runner: httpx.AsyncClient, route: str, rows: Any) -> Any:
    response = await runner.post(route, json={"features": rows})
    assert response.status_code == 200, response.text
    return response.json()


async def test_plain_and_batched_agree_with_the_engine(runner: httpx.AsyncClient) -> None:
    from serving.engines import IrisEngine

    expected = IrisEngine(open_model("iris:latest")).predict(np.array(ROWS, np.float32))
    for route in ("/predict", "/predict_batched"):
        answer = np.array(await _post(runner, route, ROWS), np.float32)
        assert answer.tobytes() == expected.tobytes()


async def test_callers_of_one_batch_get_their_own_rows(runner: httpx.AsyncClient) -> None:
    alone = {index: await _post(runner, "/predict", [row]) for index, row in enumerate(ROWS)}
    indices = [index % 3 for index in range(60)]
    answers = await asyncio.gather(*(_post(runner, "/predict_batched", [ROWS[index]]) for index in indices))
    assert answers == [alone[index] for index in indices]


async def test_the_tensor_routes_agree_with_the_declared_ones(runner: httpx.AsyncClient) -> None:
    content = np.array(ROWS, np.float32).tobytes()
    for route in ("/predict", "/predict_batched"):
        response = await runner.post(f"/tensor{route}", content=content)
        assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
        expected = np.array(await _post(runner, route, ROWS), np.float32)
        assert response.content == expected.tobytes()


async def test_plain_requests_are_alone_and_batched_ones_together(runner: httpx.AsyncClient) -> None:
    content = np.array(ROWS[:1], np.float32).tobytes()
    for route, batches in (("/tensor/predict", 20), ("/tensor/predict_batched", 1)):
        before = _batches()
        answers = await asyncio.gather(*(runner.post(route, content=content) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        after = _batches()
        assert after["_sum"] - before["_sum"] == 20
        assert after["_count"] - before["_count"] == batches


async def test_rows_whose_time_is_up_are_not_predicted(runner: httpx.AsyncClient) -> None:
    before = _batches()
    content = np.array(ROWS, np.float32).tobytes()
    response = await runner.post("/tensor/predict_batched", content=content, headers={"x-expires-in-ms": "-1"})
    assert response.status_code == 422
    assert response.json()["code"] == "deadline_exceeded"
    assert _batches() == before


def _batches() -> dict[str, float]:
    """Sum of rows and count of batches so far."""
    (metric,) = bentoml.get_current_service().process.metrics._batch_sizes.collect()
    return {end: sum(s.value for s in metric.samples if s.name.endswith(end)) for end in ("_sum", "_count")}


async def test_batch_sizes_are_measured(runner: httpx.AsyncClient) -> None:
    before = _batches()
    await _post(runner, "/predict_batched", ROWS)
    after = _batches()
    assert {end: after[end] - before[end] for end in after} == {"_sum": 3, "_count": 1}


async def test_a_runner_has_the_lean_middleware_only() -> None:
    from _bentoml_impl.server.app import ContextMiddleware

    from serving.runners import InceptionV3Runner, IrisRunner
    from serving.tensor_http import TensorPlane

    for service in (IrisRunner, InceptionV3Runner):
        kinds = [middleware.cls for middleware in service.to_asgi(is_main=False).user_middleware]
        assert kinds == [TensorPlane, ContextMiddleware]


def test_the_models_are_packed_into_the_bento() -> None:
    from serving.runners import InceptionV3Runner, IrisRunner

    assert [str(model.tag) for model in IrisRunner.models] == ["iris:latest"]
    assert [str(model.tag) for model in InceptionV3Runner.models] == ["inception_v3:latest"]


# What numpy 2.5 has, which runs on Python 3.12 and newer only, in the words of older ones.
_NUMPY_2_5 = """
import json
from typing import Any, TypeVar
import numpy as np
import numpy.typing
from typing_extensions import TypeAliasType
Scalar = TypeVar("Scalar", bound=np.generic)
numpy.typing.NDArray = TypeAliasType("NDArray", np.ndarray[Any, np.dtype[Scalar]], type_params=(Scalar,))
from serving.runners import InceptionV3Runner, IrisRunner
for service in (IrisRunner, InceptionV3Runner):
    for api in service.apis.values():
        (array,) = api.input_spec.model_json_schema()["properties"].values()
        print(json.dumps([api.name, array["dtype"], api.output_spec.model_json_schema()["dtype"]]))
"""


def test_the_runners_can_be_made_where_ndarray_is_an_alias_that_is_resolved_late() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NUMPY_2_5], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["predict", "float32", "float32"],
        ["predict_batched", "float32", "float32"],
        ["predict", "uint8", "float32"],
        ["predict_batched", "uint8", "float32"],
    ]
