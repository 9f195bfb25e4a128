"""The servers whose adaptive batching is compared, each with the request that its protocol asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks import inception_v3, iris
from benchmarks.contenders import image_settings, peers, service
from benchmarks.environments import program
from benchmarks.measurement import Question
from benchmarks.server import HOST, Server, bentoml_worker, children, free_port, itself

IRIS_SERVICE, IMAGE_SERVICE = "service_batched", "service_images_batched"
STOCK_IRIS = ("stock_batchable", "stock_composed")
"""The same engine behind BentoML's `batchable=True`: in the process that answers HTTP, and behind `depends()`."""
STOCK_IMAGES = "stock_images"
WITHOUT_BATCHING = ("fastapi_async", "book_web_single")
IRIS_SERVERS = (
    *WITHOUT_BATCHING,
    *("litserve", "mlserver", "mlserver_batching", "ray_serve"),
    *(*STOCK_IRIS, "stock_legacy", IRIS_SERVICE),
)
IMAGE_SERVERS = (STOCK_IMAGES, IMAGE_SERVICE)
V2_PATH = "/v2/models/iris/infer"


@dataclass(frozen=True, slots=True)
class Contender:
    server: Server
    question: Question


def iris_contenders(model: Path) -> list[Contender]:
    """One row per request; `model` is the ONNX file. JSON as this service's where the framework allows it."""
    same = iris.question(model)
    bare = Question(same.headers, same.body, check=iris.checker(model, lambda answer: answer))
    v2 = Question(
        same.headers,
        _v2_body(),
        check=iris.checker(model, lambda answer: [answer["outputs"][0]["data"]]),
    )
    environment = {"BENCHMARK_IRIS_MODEL": str(model)}
    quiet = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__LOGGING__PREDICTIONS": "false"}
    batchable = "benchmarks.peers.stock_bentoml_batchable"
    return [
        *(Contender(server, same) for server in peers(model) if server.name in WITHOUT_BATCHING),
        Contender(_litserve(environment), same),
        Contender(mlserver("mlserver", "MLServer, in-process", environment), v2),
        Contender(mlserver("mlserver_batching", "MLServer, adaptive batching 32 / 5 ms", environment, batch=32), v2),
        Contender(_ray_serve(environment), same),
        Contender(_stock("stock_batchable", f"{batchable}:StockBatchable", environment), bare),
        Contender(_stock("stock_composed", f"{batchable}:StockComposed", environment), same),
        Contender(_stock("stock_legacy", "benchmarks.peers.stock_bentoml_legacy:svc", environment), same),
        Contender(service(IRIS_SERVICE, "this service, iris only", "/iris/predict/batched", quiet), same),
    ]


def image_contenders(model: Path, jpeg: bytes, threads: int) -> list[Contender]:
    """One JPEG per request; `model` is the ONNX file, `threads` are the engine's for one call."""
    question = Question({"Content-Type": "image/jpeg"}, jpeg, check=inception_v3.check_answer)
    environment = {"BENCHMARK_INCEPTION_V3_MODEL": str(model), "BENCHMARK_INCEPTION_V3_THREADS": str(threads)}
    stock = _stock(STOCK_IMAGES, "benchmarks.peers.stock_bentoml_images:StockImages", environment)
    ours = service(
        IMAGE_SERVICE, "this service, both models", inception_v3.BATCHED, image_settings(threads), start_limit=120
    )
    return [Contender(stock, question), Contender(ours, question)]


def _v2_body() -> bytes:
    tensor = {"name": "data", "shape": [1, len(iris.ROW)], "datatype": "FP32", "data": iris.ROW}
    return json.dumps({"inputs": [tensor]}).encode()


def _stock(name: str, service_path: str, environment: dict[str, str]) -> Server:
    titles = {
        "stock_batchable": "stock BentoML, batchable=True",
        "stock_composed": "stock BentoML, depends() to batchable=True",
        "stock_legacy": "stock BentoML, legacy runner",
        STOCK_IMAGES: "stock BentoML, depends() to batchable=True",
    }
    command = program("bentoml", "bentoml")
    class_name = service_path.partition(":")[2]
    return Server(
        name=name,
        title=titles[name],
        command=lambda port: [command, "serve", service_path, "--host", HOST, "--port", str(port)],
        path="/predict",
        workers=children if class_name == "svc" else bentoml_worker(class_name),
        environment=environment,
        peer="bentoml",
    )


def _litserve(environment: dict[str, str]) -> Server:
    return Server(
        name="litserve",
        title="LitServe, adaptive batching 32 / 1 ms",
        command=lambda port: [
            *(program("litserve", "python"), "-m", "benchmarks.peers.litserve_batching", str(port)),
        ],
        path="/predict",
        workers=children,
        environment=environment,
        peer="litserve",
        ready_path="/health",
    )


def mlserver(name: str, title: str, environment: dict[str, str], batch: int = 0) -> Server:
    """In one process, without an access log; its gRPC and metrics servers cannot be switched off."""
    settings = {
        "MLSERVER_HOST": HOST,
        "MLSERVER_GRPC_PORT": str(free_port()),
        "MLSERVER_METRICS_PORT": str(free_port()),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_MODEL_NAME": "iris",
        "MLSERVER_MODEL_IMPLEMENTATION": "benchmarks.peers.mlserver_iris.IrisRuntime",
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(batch),
        "MLSERVER_MODEL_MAX_BATCH_TIME": "0.005" if batch else "0",
    }
    return Server(
        name=name,
        title=title,
        # the port is a setting too, which only the environment takes
        command=lambda port: [
            *("env", f"MLSERVER_HTTP_PORT={port}"),
            *(program("mlserver", "mlserver"), "start", "benchmarks/peers"),
        ],
        path=V2_PATH,
        workers=itself,
        environment={**environment, **settings},
        peer="mlserver",
        ready_path="/v2/health/ready",
    )


def _ray_serve(environment: dict[str, str]) -> Server:
    return Server(
        name="ray_serve",
        title="Ray Serve, batching 32 / 0 ms",
        command=lambda port: [
            *(program("ray_serve", "python"), "-m", "benchmarks.peers.ray_serve_batching", str(port)),
        ],
        path="/predict",
        workers=children,
        # its cluster is on the loopback device and lives as long as the measurement
        environment={**environment, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
        start_limit=120,
        peer="ray_serve",
        ready_path="/-/healthz",
    )
