"""Predictions over HTTP from real processes."""

from __future__ import annotations

import base64

import httpx
import pytest

ROW = [5.1, 3.5, 1.4, 0.2]
IMAGE_ROUTES = ["/inception_v3/predict", "/inception_v3/predict/batched"]


@pytest.mark.parametrize("route", ["/iris/predict", "/iris/predict/batched"])
def test_iris_probabilities_are_the_same_on_every_route(client: httpx.Client, route: str) -> None:
    answer = client.post(route, json={"data": [ROW, [6.7, 3.0, 5.2, 2.3]]}).json()["prediction"]
    assert [max(range(3), key=row.__getitem__) for row in answer] == [0, 2]
    assert answer[0] == client.get("/iris/predict/test").json()["prediction"][0]


def test_iris_labels(client: httpx.Client) -> None:
    rows = [ROW, [6.7, 3.0, 5.2, 2.3]]
    assert client.post("/iris/predict/label", json={"data": rows}).json() == {"prediction": ["setosa", "virginica"]}
    assert client.get("/iris/predict/test/label").json() == {"prediction": ["setosa"]}
    assert client.get("/iris/label").json() == {"0": "setosa", "1": "versicolor", "2": "virginica"}


@pytest.mark.parametrize("route", IMAGE_ROUTES)
def test_an_image_has_one_answer_however_it_is_sent(client: httpx.Client, photo: bytes, route: str) -> None:
    forms = [
        client.post(route, files={"image": photo}, data={"top_k": "3"}),
        client.post(route, content=photo, headers={"Content-Type": "image/jpeg"}, params={"top_k": 3}),
        client.post(route, json={"image": base64.b64encode(photo).decode(), "top_k": 3}),
        client.post(route, json={"image": base64.urlsafe_b64encode(photo).decode().rstrip("=")}, params={"top_k": 3}),
    ]
    answers = [form.json()["predictions"] for form in forms]
    assert answers == [answers[0]] * 4
    probabilities = [candidate["probability"] for candidate in answers[0]]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    label = client.post("/inception_v3/predict/label", files={"image": photo}).json()["prediction"]
    assert label == answers[0][0]["label"] == f"class_{answers[0][0]['class_id']:04d}"


def test_five_classes_unless_asked_otherwise(client: httpx.Client) -> None:
    answer = client.get("/inception_v3/predict/test").json()["predictions"]
    assert len(answer) == 5
    assert client.get("/inception_v3/predict/test/label").json() == {"prediction": answer[0]["label"]}


@pytest.mark.parametrize("model", ["iris", "inception_v3"])
def test_the_sample_in_the_metadata_is_a_working_request(client: httpx.Client, model: str) -> None:
    metadata = client.get(f"/{model}/metadata").json()
    assert metadata["tag"].startswith(f"{model}:")
    assert client.post(f"/{model}/predict", json=metadata["sample_request"]).json() == metadata["sample_response"]
    assert len(client.get(f"/{model}/label").json()) == metadata["classes"]


def test_an_untrained_model_says_so(client: httpx.Client) -> None:
    metadata = client.get("/inception_v3/metadata").json()
    assert (metadata["weights"], metadata["trained"]) == ("random", False)
    assert client.get("/iris/metadata").json()["trained"] is True


@pytest.mark.parametrize("path", ["/health", "/livez", "/healthz", "/readyz"])
def test_infrastructure_answers(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_page_shows_the_document_without_asking_other_hosts(client: httpx.Client) -> None:
    page = client.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "docs.json" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert client.get(f"/static_content/{asset}").status_code == 200
