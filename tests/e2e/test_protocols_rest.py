"""Unmodified public clients of other servers' protocols over HTTP, against the running service."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.server import Server

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]], np.float32)
SPECIES = ["setosa", "versicolor", "virginica"]


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4, network_timeout=60) as client:
        yield client


def rows_input(rows: np.ndarray = ROWS, *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput("features", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, binary_data=binary)
    return given


def test_triton_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    index = client.get_model_repository_index()
    assert [(model["name"], model["state"]) for model in index] == [("iris", "READY"), ("inception_v3", "READY")]
    for model in index:
        name, version = model["name"], model["version"]
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        assert client.get_model_metadata(name, version)["versions"] == [version]
        (statistics,) = client.get_inference_statistics(name)["model_stats"]
        assert statistics["version"] == version
    assert not client.is_model_ready("iris", "1")
    assert not client.is_model_ready("rose")
    assert len(client.get_inference_statistics()["model_stats"]) == 2


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary out", "JSON out"])
def test_triton_iris(server: Server, client: triton.InferenceServerClient, binary_in: bool, binary_out: bool) -> None:
    native = requests.post(f"{server.url}/iris/predict", json={"data": ROWS.tolist()}, timeout=60).json()["prediction"]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "label")]
    result = client.infer(
        "iris", [rows_input(binary=binary_in)], outputs=outputs, request_id="seven", headers={"X-Request-ID": "seven"}
    )
    assert result.as_numpy("probabilities").tolist() == native
    labels = result.as_numpy("label")
    assert [label if isinstance(label, str) else label.decode() for label in labels] == SPECIES
    assert result.get_response()["id"] == "seven"
    assert any(record["request_id"] == "seven" for record in server.log_records("serving.prediction"))
    without_outputs = client.infer("iris", [rows_input(binary=binary_in)])
    assert without_outputs.as_numpy("probabilities").tolist() == native


def test_triton_asynchronous_inference(client: triton.InferenceServerClient) -> None:
    running = [client.async_infer("iris", [rows_input(ROWS[index : index + 1])]) for index in (0, 1, 2, 1, 0)]
    labels = [pending.get_result(timeout=60).as_numpy("label")[0].decode() for pending in running]
    assert labels == ["setosa", "versicolor", "virginica", "versicolor", "setosa"]


def test_triton_images_as_files_and_as_pixels(
    server: Server, client: triton.InferenceServerClient, photo: bytes
) -> None:
    native = requests.post(
        f"{server.url}/inception_v3/predict?top_k=3", data=photo, headers={"content-type": "image/jpeg"}, timeout=60
    ).json()["predictions"]
    given = triton.InferInput("image", [2], "BYTES")
    given.set_data_from_numpy(np.array([photo, base64.urlsafe_b64encode(photo)], np.object_))
    result = client.infer(
        "inception_v3",
        [given],
        outputs=[triton.InferRequestedOutput("probabilities", class_count=3)],
        timeout=30_000_000,
    )
    for row in result.as_numpy("probabilities"):
        found = [text.decode().split(":") for text in row]
        assert [(label, int(index)) for _, index, label in found] == [(n["label"], n["class_id"]) for n in native]
        assert [np.float32(probability) for probability, _, _ in found] == [
            np.float32(each["probability"]) for each in native
        ]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 299, 299, 3), np.uint8)
    given = triton.InferInput("pixels", list(pixels.shape), "UINT8")
    given.set_data_from_numpy(pixels)
    assert client.infer("inception_v3", [given]).as_numpy("probabilities").shape == (3, 1000)


def test_triton_reads_the_errors(client: triton.InferenceServerClient) -> None:
    wrong = triton.InferInput("features", [1, 3], "FP32")
    wrong.set_data_from_numpy(ROWS[:1, :3])
    with pytest.raises(InferenceServerException, match=r"the shape \[1, 3\] is not \[N, 4\]") as caught:
        client.infer("iris", [wrong])
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="there is no model rose") as caught:
        client.infer("rose", [rows_input()])
    assert caught.value.status() == "404"


def test_requests_of_tensorflow_servings_documentation(server: Server, photo: bytes) -> None:
    base = f"{server.url}/v1/models"

    def post(path: str, document: Any) -> Any:
        response = requests.post(f"{base}/{path}", data=json.dumps(document), timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    (status,) = requests.get(f"{base}/iris", timeout=60).json()["model_version_status"]
    assert (status["state"], status["status"]) == ("AVAILABLE", {"error_code": "OK", "error_message": ""})
    signatures = requests.get(f"{base}/iris/versions/{status['version']}/metadata", timeout=60).json()["metadata"]
    assert "serving_default" in signatures["signature_def"]["signature_def"]
    rows = post(f"iris/versions/{status['version']}:predict", {"instances": ROWS.astype(float).round(1).tolist()})
    assert post("iris/labels/stable:predict", {"inputs": ROWS.astype(float).round(1).tolist()}) == {
        "outputs": rows["predictions"]
    }
    native = requests.post(f"{server.url}/iris/predict", json={"data": ROWS.tolist()}, timeout=60).json()
    assert rows["predictions"] == native["prediction"]
    file = {"b64": base64.b64encode(photo).decode()}
    text = base64.urlsafe_b64encode(photo).decode().rstrip("=")
    label = requests.post(
        f"{server.url}/inception_v3/predict/label", data=photo, headers={"content-type": "image/jpeg"}, timeout=60
    ).json()["prediction"]
    assert post("inception_v3:predict", {"instances": [file, text]}) == {"predictions": [label, label]}
    (results,) = post("inception_v3:classify", {"examples": [{"image": file}]})["results"]
    assert max(results, key=lambda pair: pair[1])[0] == label
    missing = requests.post(f"{base}/half:predict", data='{"instances": [1.0,5.0]}', timeout=60)
    assert (missing.status_code, missing.json()) == (
        404,
        {"error": "Servable not found for request: Latest(half)"},
    )
