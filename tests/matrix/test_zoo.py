"""A zoo of models of many libraries, each added by `serving models add` alone: in every way what its library says."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving.core.tensors import NOT_FINITE
from tests.matrix.cases import Case
from tests.matrix.conftest import Place, serve
from tests.matrix.test_every_way import check
from tests.matrix.ways import expected, job, listed, native, rows_of_a_database, triton_binary, triton_grpc, v2_json
from tests.matrix.zoo import MAKE

pytestmark = pytest.mark.slow
WAYS = [native, job, rows_of_a_database, v2_json, triton_binary, triton_grpc]


@pytest.fixture(scope="module")
def zoo(model_store: Path) -> Iterator[Place]:
    cases = {name: make() for name, make in MAKE.items()}
    with serve(cases, {"logistic": {"predict_in": "api"}}, model_store / "models" / "iris") as found:
        yield found


@pytest.mark.parametrize("name", MAKE)
def test_a_model_says_what_its_library_says(zoo: Place, name: str) -> None:
    case = zoo.cases[name]
    described = httpx.get(f"{zoo.server.url}/{name}/metadata", timeout=60).json()
    assert (described["kind"], described["task"]) == (case.kind, case.task)
    for way in WAYS:
        check(way(zoo, case), expected(case), case.tolerance)


@pytest.mark.parametrize("name", MAKE)
def test_classes_have_the_names_and_labels_of_the_library(zoo: Place, name: str) -> None:
    case = zoo.cases[name]
    url = f"{zoo.server.url}/{name}"
    names = httpx.get(f"{url}/label", timeout=60)
    label = httpx.post(f"{url}/predict/label", content=case.request, timeout=60)
    if not case.labels:
        assert (names.status_code, label.status_code) == (404, 404)
        return
    assert names.json() == {str(index): each for index, each in enumerate(case.labels)}
    assert label.json() == {"prediction": list(case.predicted)}
    answer = httpx.post(f"{zoo.server.url}/v2/models/{name}/infer", json={"inputs": listed(case.inputs)}, timeout=60)
    outputs = {each["name"]: each for each in answer.json()["outputs"]}
    if "label" in outputs and outputs["label"]["datatype"] == "BYTES":  # the graph's own one may be a number
        assert outputs["label"]["data"] == list(case.predicted)


def test_nothing_below_zero_keeps_its_sign(zoo: Place) -> None:
    case = zoo.cases["precise"]
    for way in WAYS:
        (found,) = way(zoo, case).values()
        assert np.signbit(found).tolist() == np.signbit(case.inputs["given"]).tolist(), way.__name__


def test_files_of_rows_have_the_labels_of_the_library(zoo: Place) -> None:
    case = zoo.cases["votes"]
    likely = case.outputs[case.scores].argmax(axis=1)
    assert [case.labels[index] for index in likely] != list(case.predicted), "no row is decided by votes"
    source, target = zoo.directory / "votes.csv", zoo.directory / "votes-scored"
    rows = [",".join(map(str, row)) for row in case.body["data"]]
    source.write_text("\n".join(["X_0,X_1,X_2,X_3", *rows]))
    zoo.commands([["batch", "score-files", str(source), str(target), "--model", "votes", "--format", "csv"]])
    (part,) = target.rglob("*.csv")
    with part.open(encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == list(case.predicted)


# What is refused is refused in every way


def refusals(place: Place, case: Case) -> dict[str, tuple[int, str]]:
    """The status (of HTTP and of gRPC) and the sentence of each way that refuses a case while its caller waits."""
    url, v2 = f"{place.server.url}/{case.name}", f"{place.server.url}/v2/models/{case.name}/infer"
    found: dict[str, tuple[int, str]] = {}
    for name, answer in (
        ("native", httpx.post(f"{url}/predict", content=case.request, timeout=60)),
        ("batched", httpx.post(f"{url}/predict/batched", content=case.request, timeout=60)),
        ("json", httpx.post(v2, json={"inputs": listed(case.inputs)}, timeout=60)),
        ("binary", _binary(v2, case.inputs)),
    ):
        error = answer.json()["error"]
        found[name] = (answer.status_code, error["message"] if isinstance(error, dict) else error)
    given = []
    for name, array in case.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    with (
        triton.InferenceServerClient(place.server.grpc_target) as client,
        pytest.raises(InferenceServerException) as raised,
    ):
        client.infer(case.name, given, client_timeout=60)
    code = getattr(grpc.StatusCode, raised.value.status().removeprefix("StatusCode."))
    found["grpc"] = (code.value[0], raised.value.message())
    return found


def _binary(url: str, tensors: dict[str, NDArray[Any]]) -> httpx.Response:
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": np_to_triton_dtype(array.dtype),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]
    header = json.dumps({"inputs": inputs}).encode()
    content = header + b"".join(array.tobytes() for array in tensors.values())
    headers = {"Inference-Header-Content-Length": str(len(header))}
    return httpx.post(url, content=content, headers=headers, timeout=60)


def asked(case: Case, rows: NDArray[Any]) -> Case:
    """The same model, asked for other rows."""
    return replace(case, inputs=dict.fromkeys(case.inputs, rows), body={"data": rows.tolist()})


def statuses(found: dict[str, tuple[int, str]]) -> dict[str, int]:
    return {way: status for way, (status, _) in found.items()}


REFUSED = dict.fromkeys(("native", "batched", "json", "binary"), 400) | {
    "grpc": grpc.StatusCode.INVALID_ARGUMENT.value[0]
}


@pytest.mark.parametrize("name", ["logistic", "linear", "clusters", "integers", "one_row", "half"])
def test_no_rows_are_refused_in_every_way(zoo: Place, name: str) -> None:
    case = zoo.cases[name]
    (given,) = case.inputs.values()
    nobody = asked(case, given[:0])
    assert statuses(refusals(zoo, nobody)) == REFUSED
    assert httpx.post(f"{zoo.server.url}/{name}/jobs", content=nobody.request, timeout=60).status_code == 400
    row = httpx.post(f"{zoo.server.url}/batch/items", json={"items": [{"model": name, "values": []}]}, timeout=60)
    assert row.status_code == 400


def test_an_answer_that_is_no_number_is_refused_in_every_way(zoo: Place) -> None:
    case = asked(zoo.cases["roots"], np.array([[4.0, 1.0], [1.0, -1.0]], np.float32))
    found = refusals(zoo, case)
    assert statuses(found) == REFUSED
    assert all("[1]" in sentence and sentence.endswith(NOT_FINITE) for _, sentence in found.values()), found
    accepted = httpx.post(f"{zoo.server.url}/roots/jobs", content=case.request, timeout=60).json()
    job_ = httpx.get(f"{zoo.server.url}{accepted['status_url']}?wait=30", timeout=60).json()
    assert job_["status"] == "failed"
    assert job_["error"]["message"].endswith(NOT_FINITE)


# What programs of other servers send beside the tensors


@pytest.mark.parametrize(
    "beside",
    [
        {"id": None, "parameters": None, "outputs": None},
        {"id": "", "parameters": {}, "outputs": []},
        {"parameters": {"content_type": "np", "priority": 0}},
    ],
)
def test_null_is_not_given_and_parameters_of_others_are_ignored(zoo: Place, beside: dict[str, Any]) -> None:
    case = zoo.cases["logistic"]
    inputs = listed(case.inputs)
    if "parameters" in beside:
        inputs = [each | {"parameters": beside["parameters"]} for each in inputs]
    url = f"{zoo.server.url}/v2/models/logistic/infer"
    answer = httpx.post(url, json={"inputs": inputs} | beside, timeout=60)
    assert answer.status_code == 200, answer.text
    wanted = httpx.post(url, json={"inputs": listed(case.inputs)}, timeout=60).json()["outputs"]
    assert answer.json()["outputs"] == wanted


def test_models_are_listed_for_clients_of_the_first_version(zoo: Place) -> None:
    """As KServe's clients ask before they predict."""
    listed_ = httpx.get(f"{zoo.server.url}/v1/models", timeout=60)
    assert listed_.status_code == 200
    assert set(MAKE) <= set(listed_.json()["models"])
    found = httpx.get(f"{zoo.server.url}/v1/models/logistic", timeout=60).json()
    assert (found["name"], found["ready"]) == ("logistic", True)
    assert found["model_version_status"][0]["state"] == "AVAILABLE"
