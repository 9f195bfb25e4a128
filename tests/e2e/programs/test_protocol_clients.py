"""Clients of other servers that speak the standard protocols: of Triton, KServe, OpenVINO Model Server, MLServer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException, shared_memory

from tests.e2e.programs.running import HERE, python, run
from tests.packages import unpack
from tests.server import Server

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
LABELS = ["setosa", "virginica"]
NO_SHARED_MEMORY = "shared memory is not supported; requests and answers carry their data"


@pytest.fixture
def label(client: httpx.Client, photo: bytes) -> str:
    found: str = client.post("/inception_v3/predict/label", files={"image": photo}).json()["prediction"]
    return found


@pytest.fixture
def expected(client: httpx.Client) -> Any:
    return client.post("/iris/predict", json={"data": ROWS.tolist()}).json()["prediction"]


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """The module of a client of Triton, and the client."""
    module: Any = getattr(tritonclient, request.param)
    address = f"127.0.0.1:{server.port}" if request.param == "http" else server.grpc_target
    with module.InferenceServerClient(address) as client:
        yield module, client


def rows(module: Any, array: Any = ROWS) -> Any:
    given = module.InferInput("features", list(array.shape), "FP32")
    given.set_data_from_numpy(array)
    return given


def refusal(ask: Callable[[], Any]) -> tuple[str, str]:
    """The status and the message that a client of Triton was given."""
    with pytest.raises(InferenceServerException) as caught:
        ask()
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_triton_compresses(triton: Any, expected: Any, algorithm: str) -> None:
    module, client = triton
    over_http = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    more = over_http if module is tritonclient.http else {"compression_algorithm": algorithm}
    assert client.infer("iris", [rows(module)], **more).as_numpy("probabilities").tolist() == expected


def test_triton_describes(triton: Any) -> None:
    module, client = triton
    as_dict = {} if module is tritonclient.http else {"as_json": True}
    config = client.get_model_config("iris", **as_dict)
    config = config.get("config", config)
    assert (config["max_batch_size"], config["input"][0]["data_type"]) == (1024, "TYPE_FP32")
    client.infer("iris", [rows(module)])
    (statistics,) = client.get_inference_statistics("iris", **as_dict)["model_stats"]
    assert int(statistics["inference_count"]) >= 2
    assert int(statistics["inference_stats"]["success"]["ns"]) > 0
    index = client.get_model_repository_index(**as_dict)
    models = index if module is tritonclient.http else index["models"]
    assert [each["name"] for each in models if each["state"] == "READY"] == ["iris", "inception_v3"]


def test_triton_sends_options_that_mean_nothing_here(triton: Any, expected: Any) -> None:
    module, client = triton
    sequence = {"sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 1, "timeout": 60_000_000}
    answer = client.infer("iris", [rows(module)], **sequence, parameters={"of": "the caller", "level": 3})
    assert answer.as_numpy("probabilities").tolist() == expected


def test_triton_is_told_that_there_is_no_shared_memory(triton: Any) -> None:
    module, client = triton
    over_http = module is tritonclient.http
    region = shared_memory.create_shared_memory_region("rows", "/model_serving_rows", ROWS.nbytes)
    try:
        shared_memory.set_shared_memory_region(region, [ROWS])
        unknown = "400" if over_http else "UNIMPLEMENTED"
        for ask in (
            lambda: client.register_system_shared_memory("rows", "/model_serving_rows", ROWS.nbytes),
            client.get_system_shared_memory_status,
            client.unregister_system_shared_memory,
            client.get_cuda_shared_memory_status,
        ):
            assert refusal(ask) == (unknown, NO_SHARED_MEMORY)
        given = module.InferInput("features", list(ROWS.shape), "FP32")
        given.set_shared_memory("rows", ROWS.nbytes)
        output = module.InferRequestedOutput("probabilities")
        output.set_shared_memory("rows", ROWS.nbytes)
        refused = "400" if over_http else "INVALID_ARGUMENT"
        assert refusal(lambda: client.infer("iris", [given])) == (refused, f"features: {NO_SHARED_MEMORY}")
        assert refusal(lambda: client.infer("iris", [rows(module)], outputs=[output])) == (
            refused,
            f"probabilities: {NO_SHARED_MEMORY}",
        )
        assert shared_memory.get_contents_as_numpy(region, np.float32, [2, 4]).tolist() == ROWS.tolist()
    finally:
        shared_memory.destroy_shared_memory_region(region)


def test_triton_is_told_who_sets_what_it_would_set(triton: Any) -> None:
    module, client = triton
    unknown = "400" if module is tritonclient.http else "UNIMPLEMENTED"
    for ask, what in (
        (client.get_trace_settings, "tracing"),
        (lambda: client.get_trace_settings("iris"), "tracing"),
        (lambda: client.update_trace_settings("iris", {"trace_level": ["TIMESTAMPS"]}), "tracing"),
        (client.get_log_settings, "logging"),
        (lambda: client.update_log_settings({"log_verbose_level": 1}), "logging"),
        (lambda: client.load_model("iris"), "models"),
        (lambda: client.unload_model("iris"), "models"),
    ):
        status, message = refusal(ask)
        assert (status, f"`{what}` in configuration.yaml" in message) == (unknown, True), message


def test_triton_streams(server: Server, expected: Any) -> None:
    answers: Queue[Any] = Queue()
    with tritonclient.grpc.InferenceServerClient(server.grpc_target) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), compression_algorithm="gzip")
        for number in range(3):
            more = {"request_id": str(number), "enable_empty_final_response": True}
            client.async_stream_infer("iris", [rows(tritonclient.grpc)], **more)
        client.async_stream_infer("iris", [rows(tritonclient.grpc, ROWS[:, :3].copy())])
        for number in range(3):
            result, error = answers.get(timeout=60)
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("probabilities").tolist() == expected
            # Clients wait for this mark, which ends the answers to a request.
            assert result.get_response().parameters["triton_final_response"].bool_param
        result, error = answers.get(timeout=60)
        assert (result, error.message()) == (None, "features: the shape [2, 3] is not [N, 4] with N > 0")
        client.stop_stream()


def test_triton_of_asyncio(server: Server, expected: Any) -> None:
    async def over_http() -> Any:
        async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_model_ready("iris")
            more = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}
            return [await client.infer("iris", [rows(tritonclient.http.aio)], **each) for each in ({}, more)]

    async def over_grpc() -> Any:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for _ in range(3):
                yield {"model_name": "iris", "inputs": [rows(tritonclient.grpc.aio)]}

        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_target) as client:
            assert await client.is_model_ready("iris")
            return [result async for result, error in client.stream_infer(requests()) if error is None]

    for answers, count in ((asyncio.run(over_http()), 2), (asyncio.run(over_grpc()), 3)):
        assert [answer.as_numpy("probabilities").tolist() for answer in answers] == [expected] * count


def test_kserve(server: Server, image: Path, expected: Any, label: str) -> None:
    program = python("kserve") / "python"
    told = json.loads(run(program, HERE / "kserve_client.py", server.url, server.grpc_target, image))
    v1, v2, over_grpc = told["v1"], told["v2"], told["grpc"]
    assert (v1["live"], v1["ready"]) == (True, True)
    assert (v1["rows"], v1["image"]) == ({"predictions": expected}, {"predictions": [label]})
    assert "the shape [1, 1] is not [N, 4]" in v1["refused"]
    assert (v2["live"], v2["ready"], over_grpc["live"], over_grpc["ready"]) == (
        True,
        [True, True, False],
        True,
        [True, True],
    )
    row = {"id": "seven", "model": "iris", "probabilities": np.ravel(expected).tolist(), "label": LABELS}
    assert v2["rows"] + over_grpc["rows"] == [row] * 4
    assert (v2["image"]["label"], over_grpc["image"]["label"]) == ([label], [label])
    assert over_grpc["refused"] == "there is no model rose; served: iris, inception_v3"


def test_ovmsclient(server: Server, image: Path, tmp_path: Path, expected: Any, label: str) -> None:
    path = unpack("ovmsclient", tmp_path / "ovmsclient")
    addresses = f"127.0.0.1:{server.port}", server.grpc_target
    told = json.loads(run(sys.executable, HERE / "ovms_client.py", *addresses, image, PYTHONPATH=str(path)))
    for one in told.values():
        assert one["status"] == {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
        assert np.float32(one["rows"]).tolist() == expected
        assert one["image"] == [label]
        assert "ModelNotFoundError" in one["missing"]
        assert "InvalidInputError" in one["refused"]
        assert "the shape [2, 3] is not [N, 4]" in one["refused"]
    assert told["grpc"]["metadata"]["inputs"] == {"features": {"shape": [-1, 4], "dtype": "DT_FLOAT"}}


@pytest.mark.parametrize("options", [("--binary-data",), ("--batch-size", "2")], ids=["binary", "batches"])
def test_mlserver_infer(server: Server, tmp_path: Path, expected: Any, options: tuple[str, ...]) -> None:
    """Its command for files of requests."""
    lines = [
        {"id": str(number), "inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": row}]}
        for number, row in enumerate(ROWS.tolist())
    ]
    asked, answered = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = ("--input-data-path", asked, "--output-data-path", answered)
    address = ("--url", f"127.0.0.1:{server.port}", "--model-name", "iris")
    run(python("mlserver") / "mlserver", "infer", *address, *files, *options)
    found = sorted((json.loads(line) for line in answered.read_text().splitlines()), key=lambda each: each["id"])
    outputs = [{output["name"]: output["data"] for output in each["outputs"]} for each in found]
    assert outputs == [{"probabilities": row, "label": [label]} for row, label in zip(expected, LABELS, strict=True)]
