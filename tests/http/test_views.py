"""The GET routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from starlette.routing import Route

from serving.http.views import make_views
from serving.store.models import open_model
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["iris", "inception_v3"])
async def test_metadata_is_that_of_the_store(client: httpx.AsyncClient, name: str) -> None:
    model = open_model(f"{name}:latest")
    shown = (await client.get(f"/{name}/metadata")).json()
    assert shown["tag"] == model.tag == str(bentoml.models.get(f"{name}:latest").tag)
    assert shown["version"] == model.tag.partition(":")[2]
    assert shown["weights"] == model.metadata.weights.origin
    assert shown["weights_sha256"] == model.metadata.weights.sha256
    assert shown["classes"] == len(model.metadata.labels)
    assert shown["library_versions"] == model.metadata.versions
    assert shown["inputs"] == [spec.model_dump() for spec in model.metadata.inputs]
    assert shown["outputs"] == [spec.model_dump() for spec in model.metadata.outputs]
    assert shown["verification"]["max_abs_difference"] <= shown["verification"]["tolerance"]
    assert set(shown["library_versions"]) >= {"python", "numpy", "onnxruntime"}


async def test_an_untrained_model_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.get("/iris/metadata")).json()["trained"] is True
    shown = (await client.get("/inception_v3/metadata")).json()
    assert (shown["trained"], shown["weights"]) == (False, "random")


@pytest.mark.parametrize("name", ["iris", "inception_v3"])
async def test_labels_by_class_id(client: httpx.AsyncClient, name: str) -> None:
    labels = open_model(f"{name}:latest").metadata.labels
    assert (await client.get(f"/{name}/label")).json() == {str(index): label for index, label in enumerate(labels)}


async def test_the_sample_answer_of_inception_v3_is_asked_for_once(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await client.get("/inception_v3/metadata")).json()

    async def fail(_images: Any, **_options: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(running.inception_v3, "_submit", fail)
    assert (await client.get("/inception_v3/metadata")).json() == first


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    for path in ("/livez", "/healthz", "/readyz"):
        assert (await client.get(path)).status_code == 200


async def test_a_draining_worker_is_alive_and_not_ready(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.process.drain, "started", True)
    assert (await client.get("/livez")).status_code == 200
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "unavailable"
    assert response.headers["retry-after"] == "1"


async def test_metrics_name_the_models(client: httpx.AsyncClient, running: Any) -> None:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    iris, inception_v3 = running.iris.model.tag, running.inception_v3.model.tag
    assert f'serving_model_info{{model="iris",tag="{iris}",trained="true",weights="trained"}} 1.0' in response.text
    assert f'tag="{inception_v3}",trained="false",weights="random"}} 1.0' in response.text


async def test_the_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    for file in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"./static_content/{file}" in page.text
        assert (await client.get(f"/static_content/{file}")).status_code == 200


@pytest.mark.parametrize(("iris", "inception_v3"), [(True, False), (False, True), (False, False)])
def test_only_the_models_that_are_served_have_routes(iris: bool, inception_v3: bool) -> None:
    paths = [
        route.path for route in make_views(iris=iris, inception_v3=inception_v3).routes if isinstance(route, Route)
    ]
    assert any(path.startswith("/iris/") for path in paths) == iris
    assert any(path.startswith("/inception_v3/") for path in paths) == inception_v3
    assert {"/health", "/metrics"} <= set(paths)


def test_a_tiny_model_can_be_described(tmp_path: Path) -> None:
    from serving.http.description import describe

    shown = describe(tiny_model(tmp_path), sample_request={"data": []}, sample_response={"prediction": []})
    assert (shown.tag, shown.version, shown.classes, shown.trained) == ("tiny:1", "1", 3, False)
