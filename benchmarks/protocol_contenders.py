"""The servers whose protocols are compared, each with the request that its protocol asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import iris
from benchmarks.batching_contenders import mlserver
from benchmarks.contenders import service
from benchmarks.environments import program
from benchmarks.measurement import Question
from benchmarks.server import Server, free_port, itself

SERVICE = ("service_native", "service_tfserving", "service_v2_json", "service_v2_binary")
PEERS = {
    "service_v2_json": ("mlserver_v2_json", "kserve_v2_json"),
    "service_v2_binary": ("kserve_v2_binary",),
}
"""Servers that speak the same protocol in the same form as one of ours. MLServer 1.7 reads no binary data over HTTP."""
BLOCKS = ("service_v2_json_1024", "service_v2_binary_1024")
BLOCK_ROWS = 1024
V2_PATH = "/v2/models/iris/infer"
_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Contender:
    server: Server
    question: Question


def contenders(model: Path) -> list[Contender]:
    """Iris rows; `model` is the ONNX file."""
    quiet = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__LOGGING__PREDICTIONS": "false"}
    environment = {"BENCHMARK_IRIS_MODEL": str(model)}
    tf = Question(
        iris.JSON,
        json.dumps({"instances": [iris.ROW]}).encode(),
        check=iris.checker(model, lambda answer: answer["predictions"]),
    )

    def ours(name: str, title: str, path: str, question: Question) -> Contender:
        return Contender(service(name, f"this service, {title}", path, quiet), question)

    return [
        ours("service_native", "its own route", "/iris/predict", iris.question(model)),
        ours("service_tfserving", "TensorFlow Serving's REST API", "/v1/models/iris:predict", tf),
        ours("service_v2_json", "V2 in JSON", V2_PATH, v2_json(model)),
        ours("service_v2_binary", "V2 in binary", V2_PATH, v2_binary(model)),
        Contender(mlserver("mlserver_v2_json", "MLServer, V2 in JSON", environment), v2_json(model)),
        Contender(kserve("kserve_v2_json", "KServe, V2 in JSON", environment), v2_json(model)),
        Contender(kserve("kserve_v2_binary", "KServe, V2 in binary", environment), v2_binary(model)),
        ours(BLOCKS[0], f"V2 in JSON, {BLOCK_ROWS} rows", V2_PATH, v2_json(model, BLOCK_ROWS)),
        ours(BLOCKS[1], f"V2 in binary, {BLOCK_ROWS} rows", V2_PATH, v2_binary(model, BLOCK_ROWS)),
    ]


def v2_json(model: Path, rows: int = 1) -> Question:
    """The row so many times, in and out as JSON; of the answer the first row is checked."""
    tensor = _tensor(rows) | {"data": iris.ROW * rows}
    body = json.dumps({"inputs": [tensor], **_asked(rows)}).encode()
    return Question(iris.JSON, body, check=iris.checker(model, lambda answer: [answer["outputs"][0]["data"][:3]]))


def v2_binary(model: Path, rows: int = 1) -> Question:
    """The same as binary data."""
    import numpy as np

    data = np.array([iris.ROW] * rows, "<f4").tobytes()
    tensor = _tensor(rows) | {"parameters": {"binary_data_size": len(data)}}
    document = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **_asked(rows)}).encode()
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(document))}
    return Question(headers, document + data, check=_binary_check(iris.checker(model, lambda answer: answer)))


def _binary_check(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """`check` of the first row, wherever the server puts it: not every server answers in binary."""
    import numpy as np

    def first_row(answer: bytes) -> None:
        # A text with a character for each byte, as the data after the JSON is no text.
        document, end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
        output: dict[str, Any] = document["outputs"][0]
        row = output.get("data") or np.frombuffer(answer[end:][:12], "<f4").tolist()
        check(json.dumps([np.array(row).ravel().tolist()[:3]]).encode())

    return first_row


def _tensor(rows: int) -> dict[str, Any]:
    return {"name": "features", "shape": [rows, len(iris.ROW)], "datatype": "FP32"}


def _asked(rows: int) -> dict[str, Any]:
    """Of many rows only the probabilities, which is what the peers answer."""
    return {"outputs": [{"name": "probabilities"}]} if rows > 1 else {}


def kserve(name: str, title: str, environment: dict[str, str]) -> Server:
    """Its model server, without logs of requests."""
    return Server(
        name=name,
        title=title,
        command=lambda port: [
            *(program("kserve", "python"), "-m", "benchmarks.peers.kserve_iris", str(port), str(free_port())),
        ],
        path=V2_PATH,
        workers=itself,
        environment=environment,
        peer="kserve",
        ready_path="/v2/health/ready",
        start_limit=120,
    )
