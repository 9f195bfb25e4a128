"""The servers whose gRPC is compared: this service in both protocols, beside those that speak V2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks import iris
from benchmarks.batching_contenders import mlserver
from benchmarks.contenders import service
from benchmarks.environments import program
from benchmarks.grpc_load import GrpcLoad
from benchmarks.measurement import Measurement, Plan, Progress, Question, load_rounds
from benchmarks.server import HOST, Server, ServerError, free_port, itself, running

SERVICE = ("service_v2_grpc", "service_tfserving_grpc")
PEERS = {"service_v2_grpc": ("mlserver_v2_grpc", "kserve_v2_grpc")}
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass(frozen=True, slots=True)
class GrpcContender:
    """`read` takes the first row of probabilities from an answer."""

    server: Server
    port: int
    method: str
    body: bytes
    read: Callable[[bytes], Any]
    model: Path

    def check(self) -> None:
        """Ask once: a fast wrong answer is not worth measuring.

        Raises:
            ServerError: there is no answer, or a wrong one.
        """
        check = iris.checker(self.model, lambda answer: answer)
        try:
            with grpc.insecure_channel(f"{HOST}:{self.port}") as channel:
                answer = channel.unary_unary(self.method)(self.body, timeout=30, wait_for_ready=True)
            row = [float(value) for value in self.read(answer)]
            check(str([row]).encode())
        except (grpc.RpcError, ValueError, IndexError, KeyError) as error:
            raise ServerError(f"{self.server.name}: {self.method} answers wrongly: {error}") from error

    def measure(self, plan: Plan, progress: Progress) -> Measurement:
        """As `benchmarks.measurement.measure`, with one start."""
        # The generator takes of it only the body.
        question = Question({}, self.body, check=lambda _: None)
        with running(self.server) as up:
            progress(f"{self.server.title}: ready after {up.start_seconds:.2f} s")
            self.check()
            points = load_rounds(up, question, GrpcLoad(f"{HOST}:{self.port}", self.method), plan, progress)
            self.check()
            return Measurement(self.server, points, up.start_seconds, up.worker_rss_mb(), up.total_rss_mb())


def contenders(model: Path) -> list[GrpcContender]:
    """One row of iris; `model` is the ONNX file."""
    environment = {"BENCHMARK_IRIS_MODEL": str(model)}
    quiet = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__LOGGING__PREDICTIONS": "false"}

    def ours(name: str, title: str, method: str, body: bytes, read: Callable[[bytes], Any]) -> GrpcContender:
        port = free_port()
        settings = quiet | {"SERVING__GRPC__ENABLED": "true", "SERVING__GRPC__PORT": str(port)}
        server = service(name, f"this service, {title}", "", settings)
        return GrpcContender(server, port, method, body, read, model)

    def peer(make: Callable[[int], Server]) -> GrpcContender:
        port = free_port()
        return GrpcContender(make(port), port, _INFER, _infer(), _read_inferred, model)

    return [
        ours(SERVICE[0], "V2 over gRPC", _INFER, _infer(), _read_inferred),
        ours(SERVICE[1], "TensorFlow Serving's gRPC API", _PREDICT, _predict(), _read_predicted),
        peer(lambda port: _mlserver(environment, port)),
        peer(lambda port: _kserve(environment, port)),
    ]


def _infer() -> bytes:
    from serving.grpc.messages import message

    request = message("inference.ModelInferRequest")(model_name="iris")
    request.inputs.add(name="features", datatype="FP32", shape=[1, len(iris.ROW)])
    request.raw_input_contents.append(np.array(iris.ROW, "<f4").tobytes())
    body: bytes = request.SerializeToString()
    return body


def _read_inferred(answer: bytes) -> Any:
    from serving.grpc.messages import message

    response = message("inference.ModelInferResponse").FromString(answer)
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], "<f4")[:3]
    return response.outputs[0].contents.fp32_contents[:3]


def _predict() -> bytes:
    from serving.grpc.messages import message

    request = message("tensorflow.serving.PredictRequest")()
    request.model_spec.name = "iris"
    tensor = request.inputs["features"]
    tensor.dtype = 1
    for length in (1, len(iris.ROW)):
        tensor.tensor_shape.dim.add(size=length)
    tensor.tensor_content = np.array(iris.ROW, "<f4").tobytes()
    body: bytes = request.SerializeToString()
    return body


def _read_predicted(answer: bytes) -> Any:
    from serving.grpc.messages import message

    return message("tensorflow.serving.PredictResponse").FromString(answer).outputs["probabilities"].float_val[:3]


def _mlserver(environment: dict[str, str], port: int) -> Server:
    server = mlserver("mlserver_v2_grpc", "MLServer, V2 over gRPC", environment)
    return replace(server, environment={**server.environment, "MLSERVER_GRPC_PORT": str(port)})


def _kserve(environment: dict[str, str], port: int) -> Server:
    return Server(
        name="kserve_v2_grpc",
        title="KServe, V2 over gRPC",
        command=lambda http: [
            *(program("kserve", "python"), "-m", "benchmarks.peers.kserve_iris", str(http), str(port)),
        ],
        path="",
        workers=itself,
        environment=environment,
        peer="kserve",
        ready_path="/v2/health/ready",
        start_limit=120,
    )
