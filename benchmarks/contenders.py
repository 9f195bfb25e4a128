"""The servers that are compared, by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.environments import program
from benchmarks.server import HOST, Server, bentoml_worker, children, itself

BIN = Path(sys.executable).parent
"""Where this service's own `bentoml` command is."""

SERVICE_NAME = "model_serving"


def peers(iris_model: Path) -> list[Server]:
    """The reference peers, each with one worker process; `iris_model` is the ONNX file."""
    environment = {"BENCHMARK_IRIS_MODEL": str(iris_model)}

    def uvicorn(module: str) -> list[str | Path]:
        return [
            *(program("fastapi", "uvicorn"), f"benchmarks.peers.{module}:app", "--host", HOST),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
        ]

    def gunicorn(port: int) -> list[str | Path]:
        app = "benchmarks.peers.book_web_single:app"
        worker = "uvicorn_worker.UvicornWorker"
        command = program("fastapi", "gunicorn")
        return [command, app, "--workers", "1", "--worker-class", worker, "--bind", f"{HOST}:{port}"]

    def stock(port: int) -> list[str | Path]:
        service = "benchmarks.peers.stock_bentoml:StockIris"
        return [program("bentoml", "bentoml"), "serve", service, "--host", HOST, "--port", str(port)]

    return [
        Server(
            name="raw_asgi",
            title="raw ASGI + orjson, uvicorn",
            command=lambda port: [*uvicorn("raw_asgi"), "--port", str(port)],
            path="/predict",
            workers=itself,
            environment=environment,
            peer="fastapi",
        ),
        Server(
            name="fastapi_async",
            title="FastAPI async def, uvicorn",
            command=lambda port: [*uvicorn("fastapi_async"), "--port", str(port)],
            path="/predict",
            workers=itself,
            environment=environment,
            peer="fastapi",
        ),
        Server(
            name="book_web_single",
            title="the book's web single: FastAPI def, gunicorn, log line",
            command=gunicorn,
            path="/predict",
            workers=children,
            environment=environment,
            peer="fastapi",
        ),
        Server(
            name="stock_bentoml",
            title="stock BentoML",
            command=stock,
            path="/predict",
            workers=bentoml_worker("StockIris"),
            environment=environment,
            peer="bentoml",
        ),
    ]


def service(name: str, title: str, path: str, settings: Mapping[str, str], start_limit: float = 60.0) -> Server:
    """This service as `bentoml serve` starts it, with one API worker; `settings` are `SERVING__` variables.

    Without gRPC, unless they turn it on: its port may be taken.
    """
    return Server(
        name=name,
        title=title,
        command=lambda port: [BIN / "bentoml", "serve", "service:svc", "--host", HOST, "--port", str(port)],
        path=path,
        workers=bentoml_worker(SERVICE_NAME),
        environment={"SERVING__SERVER__WORKERS": "1", "SERVING__GRPC__ENABLED": "false", **settings},
        start_limit=start_limit,
    )


def iris_variants() -> list[Server]:
    """This service with iris only, and what its log costs."""
    quiet = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__LOGGING__PREDICTIONS": "false"}
    logged = quiet | {"SERVING__LOGGING__PREDICTIONS": "true"}
    path = "/iris/predict"
    return [
        service("service", "this service", path, quiet),
        service("service_log", "this service, log line per prediction", path, logged),
    ]


def image_settings(threads: int) -> dict[str, str]:
    """Settings with which the service has the engine that is measured alone: ONNX Runtime."""
    return {
        "SERVING__MODELS__INCEPTION_V3__THREADS": str(threads),
        "SERVING__MODELS__INCEPTION_V3__ENGINE": "onnxruntime",
    }
