"""Ten times more than the server can do: every answer is 2xx, 429 or 504, and afterwards all is as before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_observability import total
from tests.server import Server, serving


@pytest.fixture(scope="module")
def bounded(model_store: Path) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    """12 images may be in flight; of iris 4 rows may wait."""
    bounds = {
        "SERVING__MODELS__INCEPTION_V3__MAX_IN_FLIGHT": "12",
        "SERVING__MODELS__IRIS__BATCHING__MAX_QUEUE_ROWS": "4",
    }
    with serving(**bounds) as running:
        yield running


def test_overload_stays_polite(bounded: Server, photo: bytes) -> None:
    """Closed loops of far more clients than the bounds admit, with and without patience."""

    async def client(http: httpx.AsyncClient, outcomes: Counter[int], requests: int, patience: str | None) -> None:
        headers = {"Content-Type": "image/jpeg"} | ({"X-Request-Timeout-Ms": patience} if patience else {})
        for _ in range(requests):
            response = await http.post("/inception_v3/predict/batched", content=photo, headers=headers)
            outcomes[response.status_code] += 1
            if response.status_code == 429:
                assert int(response.headers["Retry-After"]) >= 1
            if response.status_code != 200:
                assert response.json()["error"]["message"]

    async def overload(url: str) -> Counter[int]:
        outcomes: Counter[int] = Counter()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
            await asyncio.gather(
                *(client(http, outcomes, 5, None) for _ in range(30)),
                *(client(http, outcomes, 5, "400") for _ in range(10)),
            )
        return outcomes

    server = bounded
    outcomes = asyncio.run(overload(server.url))
    assert set(outcomes) <= {200, 429, 504}, outcomes
    assert outcomes[200] >= 12
    assert outcomes[429], "the server was not overloaded"
    assert total(server, "serving_rejected_total", model="inception_v3", reason="queue_full") == outcomes[429]
    # Nothing is left behind.
    assert total(server, "serving_queue_depth", model="inception_v3") == 0
    assert httpx.get(f"{server.url}/inception_v3/predict/test", timeout=30).status_code == 200
    assert "Traceback" not in server.log()


def test_a_full_runner_queue_is_a_429_on_iris_too(bounded: Server) -> None:
    """4 rows may wait; 20 clients send 100 rows each."""

    async def overload(url: str) -> Counter[int]:
        outcomes: Counter[int] = Counter()
        limits = httpx.Limits(max_connections=None)
        rows = {"data": [[5.1, 3.5, 1.4, 0.2]] * 100}

        async def client(http: httpx.AsyncClient) -> None:
            for _ in range(15):
                response = await http.post("/iris/predict/batched", json=rows)
                outcomes[response.status_code] += 1
                assert response.status_code == 200 or int(response.headers["Retry-After"]) >= 1

        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
            await asyncio.gather(*(client(http) for _ in range(20)))
        return outcomes

    outcomes = asyncio.run(overload(bounded.url))
    assert set(outcomes) == {200, 429}, outcomes
    assert total(bounded, "serving_rejected_total", model="iris", reason="queue_full") == outcomes[429]
