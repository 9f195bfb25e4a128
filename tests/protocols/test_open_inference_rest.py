"""Every must of the Open Inference Protocol's specification of HTTP/REST, by its section, and of the extensions.

https://github.com/kserve/kserve/blob/master/docs/predict-api/v2/required_api.md
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from serving.core.errors import UnavailableError
from tests.app import Hold
from tests.http import tensors
from tests.http.tensors import INCEPTION_V3, IRIS, LENGTH, PNG, ROWS, binary, infer_body, read_answer, rows_input
from tests.protocols.engine import pixels_of, probabilities_of

pytestmark = pytest.mark.anyio
MODELS = ["iris", "inception_v3"]


async def ask(client: httpx.AsyncClient, path: str, **more: Any) -> dict[str, Any]:
    """The document of a good answer to GET, or to POST when there is a body."""
    response = await (client.post(path, **more) if more else client.get(path))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def error_of(response: httpx.Response, status: int) -> str:
    """The message of the protocol's own error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    document = response.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    assert document["error"]
    return document["error"]


# Health


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", *(f"/v2/models/{model}/ready" for model in MODELS)]
)
async def test_health_is_told_by_status_200(client: httpx.AsyncClient, path: str) -> None:
    assert True in (await ask(client, path)).values()


async def test_health_false_is_told_by_a_4xx(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.process.drain, "started", True)
    for path in ("/v2/health/ready", "/v2/models/iris/ready"):
        error_of(await client.get(path), 400)
    assert (await client.get("/v2/health/live")).status_code == 200
    assert {model["state"] for model in await ask(client, "/v2/repository/index", json={})} == {"UNAVAILABLE"}
    assert await ask(client, "/v2/repository/index", json={"ready": True}) == []


async def test_health_of_a_version(client: httpx.AsyncClient, running: Any) -> None:
    version = running.models.find("iris").version
    assert await ask(client, f"/v2/models/iris/versions/{version}/ready") == {"name": "iris", "ready": True}
    error_of(await client.get("/v2/models/iris/versions/1/ready"), 404)
    error_of(await client.get("/v2/models/rose/ready"), 404)


# Server metadata


async def test_server_metadata(client: httpx.AsyncClient) -> None:
    document = await ask(client, "/v2")
    assert (document["name"], document["version"][0].isdigit()) == ("model_serving", True)
    assert set(document["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "statistics",
    }


# Model metadata


async def test_model_metadata(client: httpx.AsyncClient, running: Any) -> None:
    version = str(running.models.find("iris").version)
    expected = {
        "name": "iris",
        "versions": [version],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    assert await ask(client, "/v2/models/iris") == expected
    assert await ask(client, f"/v2/models/iris/versions/{version}") == expected
    images = await ask(client, "/v2/models/inception_v3")
    assert images["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}], (
        "all that are listed are required"
    )


@pytest.mark.parametrize("path", ["/v2/models/rose", "/v2/models/IRIS", "/v2/models/iris/versions/1", "/v2/models/"])
async def test_a_failed_metadata_request_has_the_error_object(client: httpx.AsyncClient, path: str) -> None:
    error_of(await client.get(path), 404)


# Inference


async def test_inference_answers_the_engines_probabilities(client: httpx.AsyncClient, running: Any) -> None:
    document = await ask(client, IRIS, json=infer_body(rows_input()))
    assert document["model_name"] == "iris"
    assert document["model_version"] == str(running.models.find("iris").version)
    assert "id" not in document
    assert [(each["name"], each["datatype"], each["shape"]) for each in document["outputs"]] == [
        ("probabilities", "FP32", [3, 3]),
        ("label", "BYTES", [3]),
    ]
    expected = probabilities_of(running, ROWS)
    assert np.array(document["outputs"][0]["data"], np.float32).tobytes() == expected.tobytes(), "row-major and flat"
    assert document["outputs"][1]["data"] == ["setosa", "versicolor", "virginica"]


@pytest.mark.parametrize("version", ["number", "tag"])
async def test_inference_by_version(client: httpx.AsyncClient, running: Any, version: str) -> None:
    model = running.models.find("iris")
    named = model.version if version == "number" else model.tag.partition(":")[2]
    path = f"/v2/models/iris/versions/{named}/infer"
    assert await ask(client, path, json=infer_body(rows_input())) == await ask(
        client, IRIS, json=infer_body(rows_input())
    )


@pytest.mark.parametrize("request_id", ["42", "", "ü \U0001f338", "x" * 1000])
@pytest.mark.parametrize("model", MODELS)
async def test_inference_request_id_must_be_returned(client: httpx.AsyncClient, model: str, request_id: str) -> None:
    given = rows_input() if model == "iris" else tensors.images_input(PNG)
    body = infer_body(given, id=request_id, outputs=[{"name": "label"}])
    assert (await ask(client, f"/v2/models/{model}/infer", json=body))["id"] == request_id


async def test_inference_outputs_are_those_that_are_asked_for_in_their_order(client: httpx.AsyncClient) -> None:
    for names in (["label"], ["probabilities"], ["label", "probabilities"]):
        body = infer_body(rows_input(), outputs=[{"name": name} for name in names])
        assert [output["name"] for output in (await ask(client, IRIS, json=body))["outputs"]] == names
    assert len((await ask(client, IRIS, json=infer_body(rows_input(), outputs=[])))["outputs"]) == 2


async def test_inference_ignores_what_extensions_of_others_add(client: httpx.AsyncClient) -> None:
    body = infer_body(rows_input(parameters={"content_type": "np"}, more=1), model_name="x", parameters={"priority": 1})
    assert await ask(client, IRIS, json=body) == await ask(client, IRIS, json=infer_body(rows_input()))


async def test_tensor_data_may_be_nested_or_flat(client: httpx.AsyncClient) -> None:
    flat = [value for row in ROWS for value in row]
    assert await ask(client, IRIS, json=infer_body(rows_input(data=flat))) == await ask(
        client, IRIS, json=infer_body(rows_input())
    )
    files = tensors.images_input(PNG, PNG)
    column = files | {"shape": [2, 1], "data": [[text] for text in files["data"]]}
    assert await ask(client, INCEPTION_V3, json=infer_body(files)) == await ask(
        client, INCEPTION_V3, json=infer_body(column)
    )


async def test_tensor_data_of_pixels_may_be_json_or_binary(client: httpx.AsyncClient, running: Any) -> None:
    expected = read_answer(await client.post(INCEPTION_V3, json=infer_body(tensors.images_input(PNG))))
    pixels = pixels_of(running, PNG)
    for name in ("pixels", "image"):
        given = {"name": name, "shape": [1, 299, 299, 3], "datatype": "UINT8"}
        for data in (pixels.tolist(), pixels.ravel().tolist()):
            answer = read_answer(await client.post(INCEPTION_V3, json=infer_body(given | {"data": data})))
            assert answer["probabilities"].tobytes() == expected["probabilities"].tobytes()
        given["parameters"] = {"binary_data_size": pixels.size}
        answer = read_answer(
            await client.post(INCEPTION_V3, **tensors.with_binary(infer_body(given), pixels.tobytes()))
        )
        assert answer["label"] == expected["label"]


# Extension: binary tensor data


@pytest.mark.parametrize("asked", ["nothing", "all", "one", "all but one"])
async def test_binary_data_is_answered_where_it_is_asked_for(client: httpx.AsyncClient, asked: str) -> None:
    expected = read_answer(await client.post(IRIS, json=infer_body(rows_input())))
    more: dict[str, Any] = {} if asked in ("nothing", "one") else {"parameters": {"binary_data_output": True}}
    if asked in ("one", "all but one"):
        own = {"parameters": {"binary_data": asked == "one"}}
        more["outputs"] = [{"name": "probabilities"} | own, {"name": "label"}]
    response = await client.post(IRIS, **tensors.binary_rows(**more))
    answer = read_answer(response)
    assert answer["probabilities"].tobytes() == expected["probabilities"].tobytes()
    assert answer["label"] == expected["label"]
    if asked == "nothing":
        assert LENGTH not in response.headers
        assert response.headers["content-type"] == "application/json"
        return
    document = json.loads(response.content[: int(response.headers[LENGTH])])
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-length"] == str(len(response.content))
    sizes = {each["name"]: each.get("parameters", {}).get("binary_data_size") for each in document["outputs"]}
    assert (sizes["probabilities"] == 36) == (asked in ("all", "one"))
    assert (sizes["label"] == 3 * 4 + 6 + 10 + 9) == (asked in ("all", "all but one"))


@pytest.mark.parametrize("form", ["file", "base64"])
async def test_binary_bytes_have_their_length_before_them(client: httpx.AsyncClient, form: str) -> None:
    files = [PNG, tensors.JPEG]
    expected = read_answer(await client.post(INCEPTION_V3, json=infer_body(tensors.images_input(*files))))
    data = binary(*(file if form == "file" else tensors.base64url(file).encode() for file in files))
    given = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    answer = read_answer(await client.post(INCEPTION_V3, **tensors.with_binary(infer_body(given), data)))
    assert answer["probabilities"].tobytes() == expected["probabilities"].tobytes()


# Extension: classification


@pytest.mark.parametrize("where", ["output", "request"])
async def test_classification_names_the_most_probable_classes(client: httpx.AsyncClient, where: str) -> None:
    parameters = {"parameters": {"classification": 2}}
    more: dict[str, Any] = parameters if where == "request" else {"outputs": [{"name": "probabilities"} | parameters]}
    plain = read_answer(await client.post(IRIS, json=infer_body(rows_input())))
    document = await ask(client, IRIS, json=infer_body(rows_input(), **more))
    output = document["outputs"][0]
    assert (output["datatype"], output["shape"], len(output["data"])) == ("BYTES", [3, 2], 6)
    for row, best in enumerate(plain["label"]):
        first, second = (text.split(":") for text in output["data"][2 * row : 2 * row + 2])
        assert first[2] == best
        probabilities = np.sort(plain["probabilities"][row])[::-1]
        assert [np.float32(first[0]), np.float32(second[0])] == probabilities[:2].tolist()
        assert plain["probabilities"][row][int(second[1])] == probabilities[1]


async def test_classification_of_more_classes_than_there_are_names_all(client: httpx.AsyncClient) -> None:
    body = infer_body(rows_input(), parameters={"classification": 9, "binary_data_output": True})
    answer = read_answer(await client.post(IRIS, json=body))
    assert len(answer["probabilities"]) == 9


# Extensions: repository index, statistics


async def test_repository_index(client: httpx.AsyncClient, running: Any) -> None:
    expected = [
        {"name": model.name, "version": str(model.version), "state": "READY", "reason": ""} for model in running.models
    ]
    for body in (b"", b"{}", b'{"ready": true}', b'{"ready": false, "more": 1}'):
        assert (await client.post("/v2/repository/index", content=body)).json() == expected
    for body in (b"[]", b'{"ready": 1}', b"\xff", b"[" * 100_000):
        error_of(await client.post("/v2/repository/index", content=body), 400)


async def test_model_config_is_as_triton_has_it(client: httpx.AsyncClient, running: Any) -> None:
    version = running.models.find("iris").version
    config = await ask(client, "/v2/models/iris/config")
    assert list(config.pop("parameters")) == ["interface"]
    assert config == {
        "name": "iris",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 1024,
        "input": [{"name": "features", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [
            {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]},
            {"name": "label", "data_type": "TYPE_STRING", "dims": []},
        ],
        "version_policy": {"latest": {"num_versions": 1}},
        "model_transaction_policy": {"decoupled": False},
    }
    for latest in (version, 0, -1):
        found = await ask(client, f"/v2/models/iris/versions/{latest}/config")
        assert {name: found[name] for name in config} == config
    images = await ask(client, "/v2/models/inception_v3/config")
    assert images["max_batch_size"] == 32
    assert images["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}]
    error_of(await client.get("/v2/models/rose/config"), 404)


@pytest.mark.parametrize("value", [{"a": {"b": [1, None]}}, [[]], {}, "text", 5, True, None], ids=repr)
async def test_parameters_of_others_are_ignored_however_nested(client: httpx.AsyncClient, value: Any) -> None:
    expected = await ask(client, IRIS, json=infer_body(rows_input()))
    other = {"parameters": {"other": value, "priority": 1}}
    wanted = [{"name": name} | other for name in ("probabilities", "label")]
    assert await ask(client, IRIS, json=infer_body(rows_input() | other, outputs=wanted, **other)) == expected


@pytest.mark.parametrize("text", ["1e999", "-1e999", '"\\ud800"', "9" * 400])
async def test_parameters_of_others_may_be_what_no_number_or_text_is(client: httpx.AsyncClient, text: str) -> None:
    body = json.dumps(infer_body(rows_input(), parameters={"other": "here"})).replace('"here"', text)
    response = await client.post(IRIS, content=body)
    assert response.status_code in (200, 400), response.text
    body = json.dumps(infer_body(rows_input(), parameters={"classification": "here"})).replace('"here"', text)
    error_of(await client.post(IRIS, content=body), 400)


@pytest.mark.parametrize("member", ["id", "parameters", "outputs", "nested"])
async def test_null_is_not_given(client: httpx.AsyncClient, member: str) -> None:
    expected = await ask(client, IRIS, json=infer_body(rows_input()))
    if member == "nested":
        body = infer_body(rows_input() | {"parameters": None})
        assert await ask(client, IRIS, json=body) == expected
        wanted = [{"name": name, "parameters": None} for name in ("probabilities", "label")]
        assert await ask(client, IRIS, json=infer_body(rows_input(), outputs=wanted)) == expected
        body = infer_body(
            rows_input() | {"parameters": {"binary_data_size": None}}, parameters={"classification": None}
        )
        assert await ask(client, IRIS, json=body) == expected
        with_size = rows_input(data=None, parameters={"binary_data_size": 48}) | {"data": None}
        data = np.array(ROWS, "<f4").tobytes()
        response = await client.post(IRIS, **tensors.with_binary(infer_body(with_size), data))
        assert response.json() == expected
    else:
        assert await ask(client, IRIS, json=infer_body(rows_input()) | {member: None}) == expected


async def test_a_byte_order_mark_is_no_part_of_the_json(client: httpx.AsyncClient) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(infer_body(rows_input())).encode()
    assert await ask(client, IRIS, content=body) == await ask(client, IRIS, json=infer_body(rows_input()))
    assert (await client.post("/v2/repository/index", content=b"\xef\xbb\xbf{}")).status_code == 200


@pytest.mark.parametrize("where", ["input", "output"])
async def test_shared_memory_is_refused_by_its_name(client: httpx.AsyncClient, where: str) -> None:
    parameters = {"shared_memory_region": "x", "shared_memory_byte_size": 48}
    body = infer_body(rows_input(data=None, parameters=parameters))
    if where == "output":
        body = infer_body(rows_input(), outputs=[{"name": "probabilities", "parameters": parameters}])
    name = "features" if where == "input" else "probabilities"
    message = error_of(await client.post(IRIS, json=body), 400)
    assert message == f"{name}: shared memory is not supported; requests and answers carry their data"


async def test_classification_has_the_shortest_text_of_a_float32(client: httpx.AsyncClient) -> None:
    body = infer_body(rows_input(), parameters={"classification": 1}, outputs=[{"name": "probabilities"}])
    (output,) = (await ask(client, IRIS, json=body))["outputs"]
    assert output["data"][0] == "0.97449523:0:setosa"


async def test_statistics_count_what_was_asked(client: httpx.AsyncClient) -> None:
    async def stats() -> dict[str, Any]:
        (found,) = (await ask(client, "/v2/models/iris/stats"))["model_stats"]
        return found

    before = await stats()
    await client.post(IRIS, json=infer_body(rows_input()))
    await client.post("/v1/models/iris:predict", json={"instances": ROWS})
    await client.post(IRIS, json=infer_body(rows_input([[2e38] * 4, [3e38] * 4] * 600)))
    after = await stats()
    assert after["inference_count"] == before["inference_count"] + 6
    assert after["execution_count"] == before["execution_count"] + 2
    success, fail = (after["inference_stats"][name] for name in ("success", "fail"))
    assert success["count"] == before["inference_stats"]["success"]["count"] + 2
    assert fail["count"] == before["inference_stats"]["fail"]["count"] + 1
    assert success["ns"] > before["inference_stats"]["success"]["ns"]
    assert after["last_inference"] >= before["last_inference"]
    sizes = {each["batch_size"]: each["compute_infer"]["count"] for each in after["batch_stats"]}
    assert sum(size * count for size, count in sizes.items()) == after["inference_count"]
    assert sum(sizes.values()) == after["execution_count"] == success["count"]
    three = {each["batch_size"]: each["compute_infer"]["count"] for each in before["batch_stats"]}.get(3, 0)
    assert sizes[3] == three + 2
    every = (await ask(client, "/v2/models/stats"))["model_stats"]
    assert [each["name"] for each in every] == MODELS


# Inference response JSON error object

BAD_INPUTS: dict[str, dict[str, Any]] = {
    "unknown name": rows_input(name="x"),
    "name of another type": rows_input(name=1),
    "no name": rows_input(name=None),
    "unknown datatype": rows_input(datatype="FP128"),
    "datatype of another tensor": rows_input(datatype="UINT8"),
    "datatype in small letters": rows_input(datatype="fp32"),
    "no datatype": rows_input(datatype=None),
    "no shape": rows_input(shape=None),
    "shape without the batch": rows_input(shape=[4]),
    "shape of too many dimensions": rows_input(shape=[1] * 17),
    "shape that is too wide": rows_input(shape=[3, 5]),
    "negative dimension": rows_input(shape=[-3, 4]),
    "two negative dimensions": rows_input(shape=[-3, -4]),
    "zero rows": rows_input(shape=[0, 4], data=[]),
    "fractional dimension": rows_input(shape=[3.5, 4]),
    "dimension of 2**31": rows_input(shape=[2**31, 4]),
    "dimension of 2**63": rows_input(shape=[2**63, 4]),
    "dimension of 2**64": rows_input(shape=[2**64, 4]),
    "dimension of 4,000 digits": rows_input(shape=[10**4000, 4]),
    "too many rows": rows_input([[1, 2, 3, 4]] * 1025),
    "no data": rows_input(data=None),
    "null data": rows_input() | {"data": None},
    "data that is too short": rows_input(data=[1.0] * 11),
    "data that is too long": rows_input(data=[1.0] * 13),
    "ragged data": rows_input(data=[[1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4, 5]]),
    "data of another shape": rows_input(data=[[1, 2, 3]] * 4),
    "data of three dimensions": rows_input(data=[[[1], [2], [3], [4]]] * 3),
    "strings as numbers": rows_input(data=["5.1"] * 12),
    "null as a number": rows_input(data=[None] * 12),
    "true as a number": rows_input(data=[True] * 12),
    "data that is an object": rows_input(data={"a": 1}),
    "numbers beyond float32": rows_input(data=[3.5e38] * 12),
    "parameters of another type": rows_input(parameters=[]),
    "binary size beside data": rows_input(parameters={"binary_data_size": 48}),
    "binary size and no binary data": rows_input(data=None, parameters={"binary_data_size": 48}),
    "binary size that is text": rows_input(data=None, parameters={"binary_data_size": "48"}),
    "shared memory": rows_input(data=None, parameters={"shared_memory_region": "x"}),
}


@pytest.mark.parametrize("bad", BAD_INPUTS)
async def test_a_bad_input_gets_the_error_object(client: httpx.AsyncClient, bad: str) -> None:
    error_of(await client.post(IRIS, json=infer_body(BAD_INPUTS[bad])), 400)


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"nonsense",
    "half a JSON": b'{"inputs": [',
    "no UTF-8": b'{"id": "\xff", "inputs": []}',
    "an array": b"[]",
    "no inputs": b'{"id": "1"}',
    "empty inputs": b'{"inputs": []}',
    "inputs of another type": b'{"inputs": {}}',
    "NaN": json.dumps(infer_body(rows_input(data=[float("nan")] * 12))).encode(),
    "infinity": json.dumps(infer_body(rows_input(data=[1e999] * 12))).encode(),
    "nested deeply": b'{"inputs": ' + b"[" * 100_000,
    "id of another type": json.dumps(infer_body(rows_input(), id=1)).encode(),
    "two inputs": json.dumps(infer_body(rows_input(), rows_input())).encode(),
    "a million inputs": b'{"inputs": [' + b'{"name": "a"},' * 100_000 + b"{}]}",
    "unknown output": json.dumps(infer_body(rows_input(), outputs=[{"name": "x"}])).encode(),
    "output twice": json.dumps(infer_body(rows_input(), outputs=[{"name": "label"}] * 2)).encode(),
    "output without a name": json.dumps(infer_body(rows_input(), outputs=[{}])).encode(),
    "classification of labels": json.dumps(
        infer_body(rows_input(), outputs=[{"name": "label", "parameters": {"classification": 1}}])
    ).encode(),
    "a nested classification": json.dumps(infer_body(rows_input(), parameters={"classification": {"n": 1}})).encode(),
    "a nested binary size": json.dumps(
        infer_body(rows_input(parameters={"binary_data_size": [48]}, data=None))
    ).encode(),
    "a nested flag": json.dumps(infer_body(rows_input(), parameters={"binary_data_output": [True]})).encode(),
    "negative classification": json.dumps(infer_body(rows_input(), parameters={"classification": -1})).encode(),
    "half a class": json.dumps(infer_body(rows_input(), parameters={"classification": 0.5})).encode(),
    "classification by name": json.dumps(infer_body(rows_input(), parameters={"classification": "2"})).encode(),
    "binary as a number": json.dumps(infer_body(rows_input(), parameters={"binary_data_output": 1})).encode(),
}


@pytest.mark.parametrize("bad", BAD_BODIES)
async def test_a_bad_request_gets_the_error_object(client: httpx.AsyncClient, bad: str) -> None:
    error_of(await client.post(IRIS, content=BAD_BODIES[bad]), 400)


DATA = np.array(ROWS, "<f4").tobytes()
GIVEN = infer_body(rows_input(data=None, parameters={"binary_data_size": 48}))
BAD_BINARY: dict[str, dict[str, Any]] = {
    "cut off": tensors.with_binary(GIVEN, DATA[:-1]),
    "too long": tensors.with_binary(GIVEN, DATA + b"\0"),
    "missing": tensors.with_binary(GIVEN, b""),
    "of nobody": tensors.with_binary(infer_body(rows_input()), DATA),
    "as long as it says and shorter than the shape": tensors.with_binary(
        infer_body(rows_input(data=None, parameters={"binary_data_size": 44})), DATA[:-4]
    ),
    "size of -48": tensors.with_binary(infer_body(rows_input(data=None, parameters={"binary_data_size": -48})), DATA),
    "size of 2**63": tensors.with_binary(
        infer_body(rows_input(data=None, parameters={"binary_data_size": 2**63})), DATA
    ),
    "true as its size": tensors.with_binary(
        infer_body(rows_input(data=None, parameters={"binary_data_size": True})), DATA
    ),
    "not finite": tensors.with_binary(GIVEN, np.full(12, np.nan, "<f4").tobytes()),
    "infinite": tensors.with_binary(GIVEN, np.full(12, np.inf, "<f4").tobytes()),
    "header length of zero": tensors.with_binary(GIVEN, DATA, **{LENGTH: "0"}),
    "negative header length": tensors.with_binary(GIVEN, DATA, **{LENGTH: "-5"}),
    "header length of words": tensors.with_binary(GIVEN, DATA, **{LENGTH: "ten"}),
    "header length beyond the body": tensors.with_binary(GIVEN, DATA, **{LENGTH: "1000"}),
    "header length of 5,000 digits": tensors.with_binary(GIVEN, DATA, **{LENGTH: "9" * 5000}),
    "header length in other digits": tensors.with_binary(GIVEN, DATA, **{LENGTH: b"\xb2"}),
    "header length inside the JSON": tensors.with_binary(GIVEN, DATA, **{LENGTH: "10"}),
}


@pytest.mark.parametrize("bad", BAD_BINARY)
async def test_bad_binary_data_gets_the_error_object(client: httpx.AsyncClient, bad: str) -> None:
    error_of(await client.post(IRIS, **BAD_BINARY[bad]), 400)


def elements(data: bytes, count: int = 1) -> dict[str, Any]:
    given = {"name": "image", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    return tensors.with_binary(infer_body(given), data)


BAD_IMAGES: dict[str, dict[str, Any]] = {
    "length beyond the data": elements((2**32 - 1).to_bytes(4, "little") + PNG),
    "half a length": elements(binary(PNG) + b"\1\0", 2),
    "one element less": elements(binary(PNG), 2),
    "one element more": elements(binary(PNG, PNG), 1),
    "many empty elements": elements(bytes(4 * 1000), 32),
    "no image": elements(binary(b"\0nothing")),
    "empty image": elements(binary(b"")),
    "33 images": elements(binary(*[PNG] * 33), 33),
    "2**31 images": elements(binary(PNG), 2**31),
    "text": {"json": infer_body(tensors.images_input(PNG) | {"data": ["nonsense!"]})},
    "half a surrogate": {"content": json.dumps(infer_body(tensors.images_input(PNG) | {"data": ["\ud800"]}))},
    "numbers": {"json": infer_body(tensors.images_input(PNG) | {"data": [1]})},
    "names of both inputs": {"json": infer_body(tensors.images_input(PNG), tensors.images_input(PNG))},
    "strings as pixels": {"json": infer_body(tensors.images_input(PNG) | {"name": "pixels"})},
    "pixels above 255": {
        "json": infer_body(
            {"name": "pixels", "shape": [1, 299, 299, 3], "datatype": "UINT8", "data": [256] * (299 * 299 * 3)}
        )
    },
    "four images in JSON": {
        "json": infer_body(
            {"name": "pixels", "shape": [4, 299, 299, 3], "datatype": "UINT8", "data": [0] * (4 * 299 * 299 * 3)}
        )
    },
    "another size": {
        "json": infer_body({"name": "pixels", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [0] * 12})
    },
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
async def test_bad_images_get_the_error_object(client: httpx.AsyncClient, bad: str) -> None:
    error_of(await client.post(INCEPTION_V3, **BAD_IMAGES[bad]), 400)


@pytest.mark.parametrize("path", ["/v2/models/rose/infer", "/v2/models/iris/versions/1/infer", "/v2/models//infer"])
async def test_unknown_models_and_versions_get_the_error_object(client: httpx.AsyncClient, path: str) -> None:
    error_of(await client.post(path, json=infer_body(rows_input())), 404)


async def test_other_methods_get_the_error_object(client: httpx.AsyncClient) -> None:
    response = await client.get(IRIS)
    error_of(response, 405)
    assert response.headers["allow"] == "POST"


# As the other routes: limits, time, overload


@pytest.mark.parametrize("path", [IRIS, INCEPTION_V3, "/v1/models/iris:predict"])
async def test_a_body_above_the_limit(client: httpx.AsyncClient, path: str) -> None:
    async def chunks() -> Any:
        for _ in range(17):
            yield b" " * 2**20

    for content in (b" " * (17 * 2**20), chunks()):
        error_of(await client.post(path, content=content), 413)


@pytest.mark.parametrize("milliseconds", ["0", "x"])
async def test_a_wrong_time_limit(client: httpx.AsyncClient, milliseconds: str) -> None:
    for path in (IRIS, INCEPTION_V3):
        headers = {"X-Request-Timeout-Ms": milliseconds}
        error_of(await client.post(path, json=infer_body(rows_input()), headers=headers), 400)


async def test_a_time_limit_ends_the_wait(client: httpx.AsyncClient, hold: Hold) -> None:
    engine = hold("inception_v3")
    body = infer_body(tensors.images_input(PNG))
    response = await client.post(INCEPTION_V3, json=body, headers={"X-Request-Timeout-Ms": "200"})
    assert "request id" in error_of(response, 504)
    engine.release(10)


async def test_overload_and_a_missing_runner_say_when_to_come_back(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.models["inception_v3"].admission, "_held", 64)
    response = await client.post(INCEPTION_V3, json=infer_body(tensors.images_input(PNG)))
    error_of(response, 429)
    assert int(response.headers["retry-after"]) >= 1
    monkeypatch.undo()

    async def away(*_: Any, **__: Any) -> Any:
        raise UnavailableError("away", retry_after=1)

    monkeypatch.setattr(running.models["inception_v3"], "_submit", away)
    response = await client.post(INCEPTION_V3, json=infer_body(tensors.images_input(PNG)))
    error_of(response, 503)
    assert response.headers["retry-after"] == "1"


async def test_what_nobody_expected_is_told_without_its_words(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(running.models["iris"].engine, "run", fail)
    for path, body in ((IRIS, infer_body(rows_input())), ("/v1/models/iris:predict", {"instances": ROWS})):
        message = error_of(await client.post(path, json=body), 500)
        assert "secret" not in message
        assert "request id" in message


async def test_iris_goes_through_the_batcher_where_the_setting_says_so(
    client: httpx.AsyncClient, running: Any, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_answer(await client.post(IRIS, json=infer_body(rows_input())))
    iris = running.models["iris"]
    monkeypatch.setattr(iris, "batches_protocols", True)
    engine = hold("iris")
    engine.release(1)
    answer = read_answer(await client.post(IRIS, json=infer_body(rows_input())))
    assert engine.sizes == [3]
    assert answer["probabilities"].tobytes() == expected["probabilities"].tobytes()
    response = await client.post(IRIS, json=infer_body(rows_input()), headers={"X-Request-Timeout-Ms": "200"})
    error_of(response, 504)
    engine.release(1)
    monkeypatch.setattr(iris.admission, "_held", 256)
    error_of(await client.post(IRIS, json=infer_body(rows_input())), 429)


async def test_admission_comes_before_the_body(client: httpx.AsyncClient, running: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(running.models["inception_v3"].admission, "_held", 64)
    taken = 0

    async def chunks() -> Any:
        nonlocal taken
        for _ in range(4):
            taken += 1
            yield b" " * 2**20

    for path in (INCEPTION_V3, "/v1/models/inception_v3:predict", "/v1/models/inception_v3:classify"):
        error_of(await client.post(path, content=chunks()), 429)
    assert taken == 0
