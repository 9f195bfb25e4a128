"""Every way to a model, with the clients that people use; all give outputs by name."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from serving.cli import main
from serving.client import Predictor
from serving.client.predictions import Prediction
from tests.matrix.cases import Case
from tests.matrix.conftest import Place
from tests.server import ROOT

Outputs = dict[str, NDArray[Any]]
"""PROBABILITIES of a classification, VALUE of a regression; else the outputs of the graph by their names."""
# No output of a graph has such a name.
PROBABILITIES, VALUE, BEST = "/probabilities", "/value", "/best"
_JSON = {"Content-Type": "application/json"}
_RANKED = 5
"""Classes that a row of a database names."""


def native(place: Place, case: Case) -> Outputs:
    return _post(place, case, "predict")


def batched(place: Place, case: Case) -> Outputs:
    return _post(place, case, "predict/batched")


def job(place: Place, case: Case) -> Outputs:
    accepted = _send(place, case, "jobs")
    assert accepted.status_code == 202, accepted.text
    found = httpx.get(f"{place.server.url}{accepted.json()['status_url']}?wait=30", timeout=60).json()
    assert found["status"] == "succeeded", found
    return _native(case, found["result"])


def rows_of_a_database(place: Place, case: Case) -> Outputs:
    rows = place.rows[case.picture]
    assert [row.get("status") for row in rows] == ["predicted"] * len(case.values), rows
    predictions = [row["prediction"] for row in rows]
    if case.gives_outputs:
        if not case.has_rows:
            return _arrays(case, predictions[0])
        return _arrays(case, {name: [each[name] for each in predictions] for name in predictions[0]})
    if case.task == "regression":
        return {VALUE: np.array(predictions)}
    if case.kind == "image" and len(case.labels) > _RANKED:
        # The most probable classes only, best first.
        assert [each["label"] for each in predictions[0]] == [case.labels[index] for index in _best(case)]
        return {BEST: np.array([[each["probability"] for each in predictions[0]]])}
    outputs = {PROBABILITIES: np.array([_probabilities(case, each) for each in predictions])}
    # Where several classes may be right their names are a list in JSON.
    wanted = case.predicted or _labels(case, outputs[PROBABILITIES])
    texts = [json.dumps(each, separators=(",", ":")) if isinstance(each, list) else each for each in wanted]
    assert [row["label"] for row in rows] == texts
    return outputs


def tensorflow_rest(place: Place, case: Case) -> Outputs:
    signature = "probabilities" if case.kind == "image" else "serving_default"
    inputs: dict[str, Any] = {name: array.tolist() for name, array in case.inputs.items()}
    if case.kind == "image":
        inputs = {"image": [{"b64": base64.b64encode(case.image).decode()}]}
    body = {"signature_name": signature, "inputs": inputs}
    answer = httpx.post(f"{place.server.url}/v1/models/{case.name}:predict", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"]
    return _arrays(case, outputs if isinstance(outputs, dict) else {_only(case): outputs})


def tensorflow_grpc(place: Place, case: Case) -> Outputs:
    """With TensorFlow Serving's own client, a program of its own as its imports take a process."""
    signature = "probabilities" if case.kind == "image" else "serving_default"
    inputs: dict[str, Any] = {name: [array.dtype.name, array.tolist()] for name, array in case.inputs.items()}
    if case.kind == "image":
        inputs = {"image": ["bytes", [base64.b64encode(case.image).decode()]]}
    return _arrays(case, _tensorflow(place.server.grpc_target).ask(case.name, signature, inputs))


class _TensorflowClient:
    def __init__(self, target: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.matrix.tensorflow_client", target],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, model: str, signature: str, inputs: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([model, signature, inputs]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def _tensorflow(target: str) -> _TensorflowClient:
    """One process for all models; it ends with the one that started it, as its standard input does."""
    return _TensorflowClient(target)


def triton_json(place: Place, case: Case) -> Outputs:
    return _triton_http(place, case, binary=False)


def triton_binary(place: Place, case: Case) -> Outputs:
    return _triton_http(place, case, binary=True)


def _triton_http(place: Place, case: Case, *, binary: bool) -> Outputs:
    import tritonclient.http as triton
    from tritonclient.utils import np_to_triton_dtype

    given = []
    tensors = _tensors(case)
    if case.kind == "image" and not binary:
        tensors = {"image": np.array([base64.b64encode(case.image)], object)}  # JSON has no other bytes
    for name, array in tensors.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        given.append(tensor)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in _graph_outputs(case)]
    with triton.InferenceServerClient(f"127.0.0.1:{place.server.port}", network_timeout=60) as client:
        answer = client.infer(case.name, given, outputs=wanted)
    return {name: answer.as_numpy(name) for name in _graph_outputs(case)}


def v2_json(place: Place, case: Case) -> Outputs:
    """As a program without a library of the protocol writes it: null where a value is missing."""
    body = {"inputs": listed(_tensors(case)), "outputs": [{"name": name} for name in _graph_outputs(case)]}
    answer = httpx.post(f"{place.server.url}/v2/models/{case.name}/infer", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    wanted = expected(case)
    return {
        each["name"]: as_array(each["data"], wanted[each["name"]]).reshape(each["shape"])
        for each in answer.json()["outputs"]
    }


def listed(tensors: Outputs) -> list[dict[str, Any]]:
    """Tensors as the Open Inference Protocol has them in JSON."""
    from tritonclient.utils import np_to_triton_dtype

    return [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": np_to_triton_dtype(array.dtype),
            "data": [None if value != value else value for value in array.ravel().tolist()],  # noqa: PLR0124 - NaN
        }
        for name, array in tensors.items()
    ]


def triton_grpc(place: Place, case: Case) -> Outputs:
    import tritonclient.grpc as triton
    from tritonclient.utils import np_to_triton_dtype

    given = []
    for name, array in _tensors(case).items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    with triton.InferenceServerClient(place.server.grpc_target) as client:
        answer = client.infer(case.name, given, client_timeout=60)
    return {name: answer.as_numpy(name) for name in _graph_outputs(case)}


def client_native(place: Place, case: Case) -> Outputs:
    return _client(place, case, protocol="native")


def client_v2_grpc(place: Place, case: Case) -> Outputs:
    return _client(place, case, protocol="v2", transport="grpc")


def client_tensorflow_grpc(place: Place, case: Case) -> Outputs:
    return _client(place, case, protocol="tfserving", transport="grpc")


def _client(place: Place, case: Case, *, protocol: Any, transport: Any = "rest") -> Outputs:
    target = place.server.url if transport == "rest" else place.server.grpc_target
    with Predictor(target, protocol=protocol, transport=transport, timeout=60) as client:
        if case.kind == "image":
            return _predictions(case, client.predict(case.name, image=case.image))
        if case.kind == "rows":
            return _predictions(case, client.predict(case.name, rows=case.body["data"]))
        (found,) = client.predict(case.name, tensors=case.inputs)
        return dict(found.outputs)


def command_line(place: Place, case: Case) -> Outputs:
    arguments = ["predict", case.name, "--target", place.server.url, "--json"]
    if case.kind == "image":
        arguments += ["--image", str(place.directory / case.picture), "--top-k", str(len(case.labels))]
    elif case.kind == "rows":
        arguments += ["--rows", json.dumps(case.body["data"])]
        if case.task == "classification":
            arguments += ["--top-k", str(len(case.labels))]
    else:
        arguments += ["--tensors", json.dumps(case.body["inputs"])]
    with redirect_stdout(StringIO()) as printed:
        assert main(arguments) == 0
    lines = [json.loads(line) for line in printed.getvalue().splitlines()]
    if case.kind == "tensors":
        return _arrays(case, lines[0]["outputs"])
    if case.task == "regression":
        return {VALUE: np.array([line["value"] for line in lines])}
    return {PROBABILITIES: np.array([_ranked(case, line["candidates"]) for line in lines])}


WAYS: list[Callable[[Place, Case], Outputs]] = [
    native,
    batched,
    job,
    rows_of_a_database,
    tensorflow_rest,
    tensorflow_grpc,
    triton_json,
    triton_binary,
    triton_grpc,
    client_native,
    client_v2_grpc,
    client_tensorflow_grpc,
    command_line,
]


def expected(case: Case) -> Outputs:
    """What the framework says, under all names that a way may use."""
    found = dict(case.outputs)
    if case.gives_outputs:
        return found
    if case.task == "classification":
        probabilities = case.outputs["probabilities" if case.kind == "image" else case.scores]
        found[PROBABILITIES] = probabilities if case.probabilities is None else case.probabilities
        if case.kind == "image":
            found[BEST] = probabilities[:, _best(case)]
    elif case.task == "regression":
        value = case.outputs[case.scores]
        found[VALUE] = value[:, 0] if value.shape[1] == 1 else value
    return found


def _best(case: Case) -> list[int]:
    """The most probable classes of an image, best first."""
    return list(case.outputs["probabilities"][0].argsort()[::-1][:_RANKED])


def _send(place: Place, case: Case, path: str) -> httpx.Response:
    url = f"{place.server.url}/{case.name}/{path}"
    if case.kind == "image":
        form = {"top_k": str(len(case.labels))}
        return httpx.post(url, files={"image": (case.picture, case.image)}, data=form, timeout=60)
    return httpx.post(url, content=case.request, headers=_JSON, timeout=60)


def _post(place: Place, case: Case, path: str) -> Outputs:
    answer = _send(place, case, path)
    assert answer.status_code == 200, answer.text
    return _native(case, answer.json())


def _native(case: Case, answer: dict[str, Any]) -> Outputs:
    if case.kind == "image":
        return {PROBABILITIES: np.array([_ranked(case, answer["predictions"])])}
    if case.gives_outputs:
        return _arrays(case, answer["outputs"])
    return {PROBABILITIES if case.task == "classification" else VALUE: np.array(answer["prediction"])}


def _ranked(case: Case, candidates: list[Mapping[str, Any]]) -> list[float]:
    """Probabilities by class id, from classes by their rank."""
    found = {candidate["class_id"]: candidate["probability"] for candidate in candidates}
    assert {candidate["class_id"]: candidate["label"] for candidate in candidates} == dict(enumerate(case.labels))
    return [found[index] for index in range(len(case.labels))]


def _probabilities(case: Case, prediction: list[Any]) -> list[float]:
    return _ranked(case, prediction) if isinstance(prediction[0], dict) else prediction


def _labels(case: Case, probabilities: NDArray[Any]) -> list[str]:
    return [case.labels[index] for index in probabilities.argmax(axis=1)]


def _predictions(case: Case, predictions: list[Prediction]) -> Outputs:
    if case.task == "regression":
        return {VALUE: np.array([prediction.value for prediction in predictions])}
    assert case.task == "classification"
    rows = [{each.label: each.probability for each in prediction.candidates} for prediction in predictions]
    return {PROBABILITIES: np.array([[row[label] for label in case.labels] for row in rows])}


def _arrays(case: Case, outputs: Mapping[str, Any]) -> Outputs:
    wanted = expected(case)
    return {name: as_array(value, wanted[name]) for name, value in outputs.items() if name in wanted}


def as_array(value: Any, like: NDArray[Any]) -> NDArray[Any]:
    """Nested lists; of whole numbers beyond int64 NumPy would make floats."""
    return np.array(value, like.dtype if like.dtype.kind in "iu" else None)


def _only(case: Case) -> str:
    """The one output of a TensorFlow signature."""
    return "probabilities" if case.kind == "image" else case.scores


def _graph_outputs(case: Case) -> list[str]:
    return [case.scores] if case.scores else list(case.outputs)


def _tensors(case: Case) -> Outputs:
    if case.kind == "image":
        return {"image": np.array([case.image], object)}
    return case.inputs
