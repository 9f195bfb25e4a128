"""What clients ask of the server before they predict, and servers that do not say it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from serving.client import ApiError, Client, Predictor
from serving.client.predict import _HTTP
from serving.protocols.open_inference.meaning import Meaning
from serving.protocols.open_inference.messages import ModelConfig
from tests.client.server import Address, serve
from tests.client.test_predict import WAYS, ask
from tests.jobs_stand_in import StandIn
from tests.protocols.graphs import NUMBERS
from tests.protocols.graphs import any_models as tiny_models

METADATA = {
    "name": "tiny",
    "kind": "rows",
    "task": "regression",
    "scores": "y",
    "classes": 0,
    "feature_names": [],
    "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 1]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 1]}],
    "protocol_inputs": [{"name": "x", "dtype": "float32", "shape": [None, 1]}],
}


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers by path, as JSON or as bytes; its URL and the paths that were asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append(self.path)
            found = answers.get(self.path)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its failure."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_model_is_described_once() -> None:
    with answering({"/tiny/metadata": METADATA, "/tiny/predict": {"prediction": [1.5]}}) as (url, asked):
        with Predictor(url) as predictor:
            for _ in range(3):
                assert [each.value for each in predictor.predict("tiny", rows=[[1.0]])] == [1.5]
            assert predictor.describe("tiny").scores == "y"
        assert asked == ["/tiny/metadata", *["/tiny/predict"] * 3]


@pytest.mark.parametrize("protocol", list(_HTTP))
@pytest.mark.parametrize("without", list(METADATA))
def test_an_older_server_is_told_from_this_one(protocol: Any, without: str) -> None:
    older = {name: value for name, value in METADATA.items() if name != without}
    words = f"the metadata of the model has no {without}: the server is older"
    with (
        answering({"/tiny/metadata": older}) as (url, _),
        Predictor(url, protocol=protocol) as predictor,
        pytest.raises(ApiError, match=words),
    ):
        predictor.predict("tiny", rows=[[1.0]])


@pytest.mark.parametrize("protocol", ["v2", "tfserving"])
def test_an_older_server_is_told_from_this_one_over_grpc(
    any_models: Address, protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Meaning.config

    def older(meaning: Meaning) -> ModelConfig:
        return msgspec.structs.replace(config(meaning), parameters={})

    monkeypatch.setattr(Meaning, "config", older)
    with (
        Predictor(any_models.grpc, protocol=protocol, transport="grpc", timeout=60) as predictor,
        pytest.raises(ApiError, match="has no parameter interface: the server is older"),
    ):
        predictor.describe("flowers")


NONSENSE: list[Callable[[], Any]] = [
    lambda: b"<html>",
    lambda: [],
    lambda: {},
    lambda: {"prediction": 7},
    lambda: {"results": {}, "outputs": 7},
    lambda: {"outputs": [{"name": "y", "shape": [1, 1], "datatype": "FP32", "data": [1]}]},
]


@pytest.mark.parametrize("protocol", list(_HTTP))
@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("task", ["regression", "classification", "raw"])
def test_what_is_no_prediction_is_not_taken_for_one(protocol: Any, answer: Callable[[], Any], task: str) -> None:
    answers = {
        "/tiny/metadata": METADATA | {"task": task, "scores": "" if task == "raw" else "y"},
        "/tiny/label": {"0": "a"},
        **dict.fromkeys(("/tiny/predict", "/v2/models/tiny/infer", "/v1/models/tiny:predict"), answer()),
        "/v1/models/tiny:classify": answer(),
    }
    with answering(answers) as (url, _), Predictor(url, protocol=protocol) as predictor:
        with pytest.raises(ApiError) as caught:
            predictor.predict("tiny", rows=[[1.0]])
        assert caught.value.code == "not_understood"


@pytest.mark.parametrize("answer", [[], {}, METADATA | {"inputs": 7}, METADATA | {"classes": "many"}])
def test_metadata_that_are_none(answer: Any) -> None:
    with answering({"/tiny/metadata": answer}) as (url, _), Predictor(url) as predictor:
        with pytest.raises(ApiError) as caught:
            predictor.describe("tiny")
        assert caught.value.code == "not_understood"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    models = tiny_models(tmp_path_factory.mktemp("models"))
    with serve(dataclasses.replace(stored, tag=f"{name}:1") for name, stored in models.items()) as address:
        yield address


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("dtype", [*NUMBERS, "string"])
def test_every_dtype_comes_back_as_it_went(tiny: Address, way: tuple[str, str], dtype: str) -> None:
    """With the largest and the smallest number that the dtype has."""
    if dtype == "string":
        array: Any = np.array([["", "ü"], ["a\nb", "\x00"]], object)
    elif dtype == "bool":
        array = np.array([[True, False]])
    else:
        limits: Any = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
        array = np.array([[limits.min, limits.max], [0, 1]], dtype)
    if way == ("native", "rest") and dtype == "uint64":
        array = np.array([[0, 2**63 - 1]], dtype)  # beyond it JSON has no bounds that msgspec knows
    (found,) = ask(tiny, way, f"same_{dtype}", tensors={"x": array})
    assert found.outputs["y"].dtype == array.dtype
    assert found.outputs["y"].tolist() == array.tolist()


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_tensors_without_rows_and_of_any_length(tiny: Address, way: tuple[str, str]) -> None:
    step = {"state": np.arange(6.0).reshape(2, 3), "rate": np.float64(0.5), "words": ["x", "ü", ""]}
    (found,) = ask(tiny, way, "step", tensors=step)
    assert found.outputs["next"].tolist() == [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]
    assert (found.outputs["same"].shape, found.outputs["same"].item()) == ((), 0.5)
    assert found.outputs["said"].tolist() == step["words"]
    (found,) = ask(tiny, way, "free", tensors={"words": ["a", "b"], "values": [[1, 2, 3], [4, 5, 6]]})
    assert found.outputs["same"].tolist() == [[1, 2, 3], [4, 5, 6]]
    (found,) = ask(tiny, way, "missing", tensors={"x": np.array([[1.0, float("nan")]])})
    assert found.outputs["missing"].tolist() == [[False, True]]
    assert str(found.outputs["y"].tolist()) == "[[1.0, nan]]"


def test_jobs_take_what_predict_takes(any_models: Address) -> None:
    """The bodies are those of the service's own route; the stand-in of the jobs API keeps them."""
    rows = [{"age": 31.5, "city": "Paris", "visits": 2}]
    tensors = {"user/x": np.array([[1.0, 0.5]], np.float32), "count": [3], "words": [["a", "b"]]}
    with StandIn() as api, Client(api.url) as client:
        client.submit("people", rows=rows)
        client.submit("pair", tensors=tensors)
        client.submit("gaps", rows=np.array([[1.5, float("nan")]]))
        with pytest.raises(ValueError, match="one of"):
            client.submit("pair", tensors=tensors, rows=rows)
        bodies = [asked.body for asked in api.asked]
    for model, body in zip(("people", "pair", "gaps"), bodies, strict=True):
        answer = httpx.post(
            f"{any_models.url}/{model}/predict", content=body, headers={"Content-Type": "application/json"}, timeout=60
        )
        assert answer.status_code == 200, answer.text
    assert json.loads(bodies[2]) == {"data": [[1.5, None]]}
