"""The GET routes."""

from __future__ import annotations

from typing import Any

import bentoml
import httpx
import pytest

from serving.bento.api import Api
from serving.store.models import open_model

pytestmark = pytest.mark.anyio


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


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
    assert (shown["kind"], shown["task"]) == (model.metadata.kind, model.metadata.task)
    assert shown["feature_names"] == model.metadata.feature_names


async def test_an_untrained_model_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.get("/iris/metadata")).json()["trained"] is True
    shown = (await client.get("/inception_v3/metadata")).json()
    assert (shown["trained"], shown["weights"]) == (False, "random")


@pytest.mark.parametrize("name", ["iris", "inception_v3"])
async def test_labels_by_class_id(client: httpx.AsyncClient, name: str) -> None:
    labels = open_model(f"{name}:latest").metadata.labels
    assert (await client.get(f"/{name}/label")).json() == {str(index): label for index, label in enumerate(labels)}


async def test_the_sample_answer_of_inception_v3_is_asked_for_once(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await client.get("/inception_v3/metadata")).json()

    async def fail(_images: Any, **_options: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(running.models["inception_v3"], "_submit", fail)
    assert (await client.get("/inception_v3/metadata")).json() == first


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok", "health": "ok"}
    for path in ("/livez", "/healthz", "/readyz"):
        assert (await client.get(path)).status_code == 200


async def test_a_draining_worker_is_alive_and_not_ready(
    client: httpx.AsyncClient, running: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.process.drain, "started", True)
    assert (await client.get("/livez")).status_code == 200
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "unavailable"
    assert response.headers["retry-after"] == "1"


async def test_metrics_name_the_models(client: httpx.AsyncClient, running: Api) -> None:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    iris, inception_v3 = (model.tag for model in running.models)
    assert f'serving_model_info{{model="iris",tag="{iris}",trained="true",weights="trained"}} 1.0' in response.text
    assert f'tag="{inception_v3}",trained="false",weights="random"}} 1.0' in response.text


@pytest.mark.parametrize("accept", ["application/json", "*/*", None])
async def test_who_does_not_ask_for_a_page_hears_that_the_server_is_alive(
    client: httpx.AsyncClient, accept: str | None
) -> None:
    """As KServe's V1 clients ask it, whose HTTP library takes anything."""
    answer = await client.get("/", headers={} if accept is None else {"accept": accept})
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "accept")


async def test_the_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/", headers={"accept": BROWSER})
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["vary"] == "accept"
    assert "http://" not in page.text
    assert "https://" not in page.text
    for file in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"./static_content/{file}" in page.text
        assert (await client.get(f"/static_content/{file}")).status_code == 200


@pytest.mark.parametrize(("name", "first", "structure", "answer"), [
    ("iris", "data", "(1,4)", "(1,3)"), ("inception_v3", "image", "(1,299,299,3)", "(1,1000)"),
])  # fmt: skip
async def test_metadata_has_the_six_keys_of_the_book(
    client: httpx.AsyncClient, name: str, first: str, structure: str, answer: str
) -> None:
    """See https://github.com/shibuiwilliam/ml-system-in-actions, chapter 4."""
    shown = (await client.get(f"/{name}/metadata")).json()
    assert (shown["data_structure"], shown["prediction_structure"]) == (structure, answer)
    assert shown["data_type"] == {"iris": "float32", "inception_v3": "uint8"}[name]
    assert shown["prediction_type"] == "float32"
    assert shown["data_sample"] == shown["sample_request"][first]
    assert shown["prediction_sample"] == next(iter(shown["sample_response"].values()))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/predict/test", "/predict/test/label", "/metadata", "/label")),
        *(("POST", path) for path in ("/predict", "/predict/label")),
    ],
)
async def test_the_default_model_answers_without_its_name(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = {"json": {"data": [[5.1, 3.5, 1.4, 0.2]]}} if method == "POST" else {}
    named, nameless = [await client.request(method, f"{prefix}{path}", **body) for prefix in ("/iris", "")]
    assert (nameless.status_code, nameless.content) == (200, named.content)


async def test_head_is_answered_without_a_prediction_in_the_log(client: httpx.AsyncClient) -> None:
    assert (await client.head("/iris/metadata")).status_code == 200


async def test_the_schema_of_bentomls_client_names_every_method(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/schema.json")).json()
    assert {each["name"]: each["route"] for each in schema["routes"]} == {
        f"{model}_{path.replace('/', '_')}": f"/{model}/{path}"
        for model in ("iris", "inception_v3")
        for path in ("predict", "predict/batched", "predict/label")
    }
