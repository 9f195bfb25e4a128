"""Public clients of both gRPC protocols, unmodified, against the running service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

from serving.cli import main
from serving.client import ApiError, AsyncPredictor, Prediction, Predictor, UnreachableError
from serving.commands import exits
from tests.server import BENTOML, ROOT, Server, free_port

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
ARRAY = np.array(ROWS, np.float32)
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def triton(server: Server) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(server.grpc_target) as client:
        yield client


@pytest.fixture
def expected(client: httpx.Client) -> Any:
    return np.array(client.post("/iris/predict", json={"data": ROWS}).json()["prediction"], np.float32)


def rows() -> Any:
    given = tritonclient.grpc.InferInput("features", [2, 4], "FP32")
    given.set_data_from_numpy(ARRAY)
    return given


def images(*files: bytes) -> Any:
    given = tritonclient.grpc.InferInput("image", [len(files)], "BYTES")
    given.set_data_from_numpy(np.array(files, object))
    return given


def test_triton_client_sees_the_server_and_its_models(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("iris")
    assert triton.get_server_metadata().name == "model_serving"
    metadata = triton.get_model_metadata("inception_v3", as_json=True)
    assert [each["name"] for each in metadata["inputs"]] == ["image"]
    assert [each.name for each in triton.get_model_repository_index().models] == ["iris", "inception_v3"]


def test_triton_client_predicts(triton: Any, client: httpx.Client, photo: bytes, expected: Any) -> None:
    answer = triton.infer("iris", [rows()], request_id="7", headers={"x-request-id": "from-triton"})
    assert answer.get_response().id == "7"
    assert answer.as_numpy("probabilities").tobytes() == expected.tobytes()
    assert answer.as_numpy("label").tolist() == [b"setosa", b"virginica"]
    wanted = [tritonclient.grpc.InferRequestedOutput("probabilities", class_count=1)]
    best = triton.infer("inception_v3", [images(photo)], outputs=wanted, compression_algorithm="gzip")
    label = client.post("/inception_v3/predict/label", files={"image": photo}).json()["prediction"]
    assert best.as_numpy("probabilities")[0, 0].decode().rpartition(":")[2] == label


def test_triton_client_predicts_without_waiting(triton: Any, expected: Any) -> None:
    answers: Queue[Any] = Queue()
    for _ in range(8):
        triton.async_infer("iris", [rows()], callback=lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=30)
        assert error is None
        assert result.as_numpy("probabilities").tobytes() == expected.tobytes()


def test_triton_client_of_asyncio(server: Server, expected: Any) -> None:
    async def ask() -> list[Any]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_target) as client:
            assert await client.is_server_ready()
            return await asyncio.gather(*(client.infer("iris", [rows()]) for _ in range(8)))

    for answer in asyncio.run(ask()):
        assert answer.as_numpy("probabilities").tobytes() == expected.tobytes()


def test_triton_client_hears_what_is_wrong(triton: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer("irs", [rows()])
    assert (caught.value.status(), caught.value.message()) == (
        "StatusCode.NOT_FOUND",
        "there is no model irs; served: iris, inception_v3",
    )
    with pytest.raises(InferenceServerException) as caught:
        triton.infer("inception_v3", [images(b"\x00")])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "image[0]" in caught.value.message()


def test_tensorflow_serving_client(
    server: Server, client: httpx.Client, tmp_path: Path, photo: bytes, expected: Any
) -> None:
    image = tmp_path / "photo.jpg"
    image.write_bytes(photo)
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.tensorflow_client", server.grpc_target, image, json.dumps(ROWS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["rows"] == expected.ravel().tolist()
    assert [[score for _, score in row] for row in answer["classes"]] == expected.tolist()
    assert [label for label, _ in answer["classes"][0]] == ["setosa", "versicolor", "virginica"]
    assert answer["label"] == client.post("/inception_v3/predict/label", files={"image": photo}).json()["prediction"]
    assert answer["signatures"]["serving_default"] == [["image"], ["output_0"]]
    assert answer["states"] == [[answer["version"], 30]]
    assert answer["refused"] == ["NOT_FOUND", "Servable not found for request: Specific(iris, 1)"]


def test_health_and_reflection_are_the_standard_ones(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        state = check(health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService"), timeout=30).status
        assert state == health_pb2.HealthCheckResponse.SERVING
        found = ProtoReflectionDescriptorDatabase(channel)
        assert "tensorflow.serving.PredictionService" in found.get_services()
        assert found.FindFileContainingSymbol("inference.ModelInferRequest").package == "inference"


def test_calls_are_counted_and_logged_as_requests_are(server: Server, client: httpx.Client, triton: Any) -> None:
    triton.infer("iris", [rows()], headers={"x-request-id": "seen-in-the-log"})
    lines = client.get("/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("bentoml_service_request_total") and INFER in line]
    assert any('http_response_code="200"' in line for line in counts)
    (record,) = [each for each in server.log_records("serving.prediction") if each["request_id"] == "seen-in-the-log"]
    assert (record["endpoint"], record["status"], record["size"]) == (INFER, 200, "rows=2")


PROTOCOLS: list[Any] = ["tfserving", "v2"]


def both(server: Server, protocol: Any, model: str, **inputs: Any) -> list[Prediction]:
    """What the two clients of this project say, which is the same."""

    async def ask() -> list[Prediction]:
        async with AsyncPredictor(server.grpc_target, protocol=protocol, transport="grpc", timeout=60) as predictor:
            return await predictor.predict(model, **inputs)

    with Predictor(server.grpc_target, protocol=protocol, transport="grpc", timeout=60) as predictor:
        found = predictor.predict(model, **inputs)
    assert asyncio.run(ask()) == found
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_our_clients_say_over_grpc_what_they_say_over_rest(server: Server, protocol: str, photo: bytes) -> None:
    with Predictor(server.url, timeout=60) as rest:
        for model, inputs in (("iris", {"rows": ROWS}), ("inception_v3", {"images": [photo, photo], "top_k": 3})):
            expected = rest.predict(model, **inputs)  # type: ignore[arg-type]
            found = both(server, protocol, model, **inputs)
            assert [[each.label for each in one.candidates] for one in found] == [
                [each.label for each in one.candidates] for one in expected
            ]
            for one, other in zip(found, expected, strict=True):
                assert [each.class_id for each in one.candidates] == [each.class_id for each in other.candidates]
                assert [each.probability for each in one.candidates] == pytest.approx(
                    [each.probability for each in other.candidates], abs=1e-6
                )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_our_clients_hear_what_is_wrong(server: Server, protocol: Any) -> None:
    with Predictor(server.grpc_target, protocol=protocol, transport="grpc", timeout=60) as predictor:
        assert "features" in json.dumps(predictor.metadata("iris"))
        with pytest.raises(ApiError) as caught:
            predictor.predict("iris", rows=[[1.0, 2.0]])
        assert (caught.value.status, caught.value.code) == (400, "invalid_argument")
        with pytest.raises(ApiError) as caught:
            predictor.metadata("rose")
        assert caught.value.status == 404
        with pytest.raises(ValueError, match="cannot be sent"):
            predictor.predict("iris", rows=[["x"]])  # type: ignore[list-item]
    nobody = f"127.0.0.1:{free_port()}"
    predictor = Predictor(nobody, protocol=protocol, transport="grpc", timeout=60)
    with predictor, pytest.raises(UnreachableError, match=nobody):
        predictor.metadata("iris")
    with pytest.raises(ValueError, match="host:port"):
        Predictor("ftp://x", protocol=protocol, transport="grpc")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_command(server: Server, protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--protocol", protocol, "--transport", "grpc", "--target", server.grpc_target, "--timeout", "60"]
    assert main(["predict", "iris", "--row", "5.1,3.5,1.4,0.2", *options]) == exits.DONE
    assert capsys.readouterr().out == "setosa      0.9745\nversicolor  0.0242\nvirginica   0.0013\n"


def test_a_second_server_is_told_that_the_port_is_in_use(server: Server) -> None:
    port = server.grpc_target.rpartition(":")[2]
    done = subprocess.run(
        [BENTOML, "serve", "service:svc", "--port", str(free_port())],
        cwd=ROOT,
        env=os.environ | {"SERVING__GRPC__ENABLED": "true", "SERVING__GRPC__PORT": port},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert f"grpc: port {port} on 0.0.0.0 is in use; set SERVING__GRPC__PORT" in done.stderr
    assert "Traceback" not in done.stderr
