"""Models of any tensors: the same input gives the same answer by every protocol and form."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.core.tensors import DTYPES, strings
from serving.grpc.messages import message
from serving.settings.models import ModelSettings
from tests.grpc.conftest import method
from tests.protocols.graphs import NUMBERS, any_models
from tests.protocols.test_rest_fuzz import CASES, _spoil, _spoil_bytes
from tests.served import Served, with_grpc

pytestmark = pytest.mark.anyio

Tensors = dict[str, NDArray[Any]]
Way = Callable[[str, Tensors], Awaitable[Tensors]]
LENGTH = "Inference-Header-Content-Length"
ModelInferRequest = message("inference.ModelInferRequest")
PredictRequest = message("tensorflow.serving.PredictRequest")
TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
NUMPY = {dtype.open_inference: dtype.numpy for dtype in DTYPES.values()}
TF_LISTS = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 7: "string_val",
    9: "int64_val", 10: "bool_val", 17: "int_val", 19: "half_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
TF_NUMBERS = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "object": 7, "int64": 9, "bool": 10,
    "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    directory = tmp_path_factory.mktemp("models")
    served = Served((name, stored, ModelSettings(predict_in="api")) for name, stored in any_models(directory).items())
    yield served
    served.close()


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client() as client:
        yield client


@pytest.fixture
async def calls(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    server = served.grpc(with_grpc())
    await server.start("127.0.0.1")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop()


def datatype(array: NDArray[Any]) -> str:
    return "BYTES" if array.dtype == object else DTYPES[array.dtype.name].open_inference


def binary(array: NDArray[Any]) -> bytes:
    if array.dtype != object:
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in array.ravel())


def from_binary(data: bytes, kind: str, shape: list[int]) -> NDArray[Any]:
    if kind != "BYTES":
        return np.frombuffer(data, NUMPY[kind]).reshape(shape)
    found: list[str] = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:end].decode())
        data = data[end:]
    return strings(found, tuple(shape))


def from_list(values: list[Any], kind: str, shape: list[int]) -> NDArray[Any]:
    if kind == "BYTES":
        return strings([each.decode() if isinstance(each, bytes) else each for each in values], tuple(shape))
    return np.array(values, NUMPY[kind]).reshape(shape)


def ways(http: httpx.AsyncClient, calls: grpc.aio.Channel) -> dict[str, Way]:
    """Every way by which tensors by name reach a model and come back."""

    async def v2_json(name: str, tensors: Tensors, *, nested: bool = False) -> Tensors:
        inputs = [
            {
                "name": key,
                "shape": list(array.shape),
                "datatype": datatype(array),
                "data": array.tolist() if nested else array.ravel().tolist(),
            }
            for key, array in tensors.items()
        ]
        response = await http.post(f"/v2/models/{name}/infer", json={"inputs": inputs})
        assert response.status_code == 200, response.text
        return {
            each["name"]: from_list(each["data"], each["datatype"], each["shape"])
            for each in response.json()["outputs"]
        }

    async def v2_nested(name: str, tensors: Tensors) -> Tensors:
        return await v2_json(name, tensors, nested=True)

    async def v2_binary(name: str, tensors: Tensors) -> Tensors:
        parts = [binary(array) for array in tensors.values()]
        inputs = [
            {
                "name": key,
                "shape": list(array.shape),
                "datatype": datatype(array),
                "parameters": {"binary_data_size": len(part)},
            }
            for (key, array), part in zip(tensors.items(), parts, strict=True)
        ]
        text = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        response = await http.post(
            f"/v2/models/{name}/infer", content=b"".join([text, *parts]), headers={LENGTH: str(len(text))}
        )
        assert response.status_code == 200, response.text
        length = int(response.headers[LENGTH])
        rest = response.content[length:]
        found: Tensors = {}
        for each in json.loads(response.content[:length])["outputs"]:
            size = each["parameters"]["binary_data_size"]
            found[each["name"]] = from_binary(rest[:size], each["datatype"], each["shape"])
            rest = rest[size:]
        assert not rest
        return found

    def infer_request(name: str, tensors: Tensors, *, raw: bool) -> Any:
        request = ModelInferRequest(model_name=name, id="7")
        for key, array in tensors.items():
            kind = datatype(array)
            tensor = request.inputs.add(name=key, datatype=kind, shape=array.shape)
            if raw:
                request.raw_input_contents.append(binary(array))
            elif kind == "BYTES":
                tensor.contents.bytes_contents.extend(text.encode() for text in array.ravel())
            else:
                getattr(tensor.contents, TYPED[kind]).extend(array.ravel().tolist())
        return request

    def infer_response(response: Any) -> Tensors:
        assert response.id == "7"
        if response.raw_output_contents:
            return {
                output.name: from_binary(raw, output.datatype, list(output.shape))
                for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
            }
        return {
            output.name: from_list(
                list(getattr(output.contents, TYPED[output.datatype])), output.datatype, list(output.shape)
            )
            for output in response.outputs
        }

    async def grpc_raw(name: str, tensors: Tensors) -> Tensors:
        return infer_response(await method(calls, "ModelInfer")(infer_request(name, tensors, raw=True), timeout=30))

    async def grpc_typed(name: str, tensors: Tensors) -> Tensors:
        raw = any(array.dtype == np.float16 for array in tensors.values())  # it has no typed form
        return infer_response(await method(calls, "ModelInfer")(infer_request(name, tensors, raw=raw), timeout=30))

    async def tf_columns(name: str, tensors: Tensors) -> Tensors:
        inputs = {key: array.tolist() for key, array in tensors.items()}
        response = await http.post(f"/v1/models/{name}:predict", json={"inputs": inputs})
        assert response.status_code == 200, response.text
        return {"": response.json()["outputs"]}

    async def tf_grpc(name: str, tensors: Tensors) -> Tensors:
        request = PredictRequest()
        request.model_spec.name = name
        for key, array in tensors.items():
            tensor = request.inputs[key]
            tensor.dtype = TF_NUMBERS[array.dtype.name]
            for length in array.shape:
                tensor.tensor_shape.dim.add(size=length)
            if array.dtype == object:
                tensor.string_val.extend(text.encode() for text in array.ravel())
            else:
                tensor.tensor_content = binary(array)
        response = await method(calls, "Predict")(request, timeout=30)
        found: Tensors = {}
        for key, tensor in response.outputs.items():
            values = list(getattr(tensor, TF_LISTS[tensor.dtype]))
            shape = [dimension.size for dimension in tensor.tensor_shape.dim]
            if tensor.dtype == 19:
                found[key] = np.array(values, np.uint16).view(np.float16).reshape(shape)
            else:
                kind = next(each for each, number in TF_NUMBERS.items() if number == tensor.dtype)
                found[key] = from_list(values, "BYTES" if kind == "object" else DTYPES[kind].open_inference, shape)
        return found

    return {
        "V2, JSON": v2_json,
        "V2, nested JSON": v2_nested,
        "V2, binary": v2_binary,
        "V2, gRPC, raw": grpc_raw,
        "V2, gRPC, typed": grpc_typed,
        "TensorFlow Serving, columns": tf_columns,
        "TensorFlow Serving, gRPC": tf_grpc,
    }


def texts(*rows: Any) -> NDArray[Any]:
    found = np.array(rows, object)
    return strings(found.ravel().tolist(), found.shape)


def same_inputs(dtype: str) -> NDArray[Any]:
    numpy = DTYPES[dtype].numpy
    if numpy.kind == "b":
        return np.array([[True, False], [False, True]])
    if numpy.kind == "f":
        return np.array([[0.1, -0.0], [np.finfo(numpy).max, 5e-5]], numpy)
    info = np.iinfo(numpy)
    return np.array([[info.min, info.max], [1, 7]], numpy)


INPUTS: dict[str, tuple[str, Tensors]] = {
    **{f"same_{dtype}": (f"same_{dtype}", {"x": same_inputs(dtype)}) for dtype in NUMBERS},
    "strings": ("same_string", {"x": texts(["Bern", ""], ["ü \U0001f338, [", 'a "quoted": {b}'])}),
    "two inputs": (
        "towers",
        {"user": np.array([[1, 2], [3, 4]], np.float32), "item": np.array([[1, 2, 3], [4, 5, 7]], np.float32)},
    ),
    "mixed columns": (
        "mixed",
        {
            "age": np.array([[-3.0], [31.0], [0.25]], np.float32),
            "city": texts(["Paris"], ["Bern"], ["São Paulo"]),
            "seats": np.array([[2], [-(2**63)], [2**63 - 1]], np.int64),
        },
    ),
    "no rows": (
        "step",
        {"state": np.arange(6.0).reshape(2, 3), "rate": np.array(0.1), "words": texts("a", "b", "c")},
    ),
    "free dimensions": (
        "free",
        {"words": texts("x", "y"), "values": np.arange(10, dtype=np.int64).reshape(2, 5)},
    ),
}


@pytest.mark.parametrize("case", INPUTS)
async def test_every_way_answers_what_the_engine_says(
    served: Served, http: httpx.AsyncClient, calls: grpc.aio.Channel, case: str
) -> None:
    name, tensors = INPUTS[case]
    expected = served.run(name, tensors)
    order = [spec.name for spec in served.models[name].signature.outputs]
    for way, ask in ways(http, calls).items():
        answer = await ask(name, tensors)
        if "" in answer:
            lists = {key: expected[key].tolist() for key in order}
            assert answer[""] == (lists if len(order) > 1 else lists[order[0]]), way
            continue
        for key in order:
            assert answer[key].shape == expected[key].shape, way
            assert answer[key].dtype == expected[key].dtype, way
            assert answer[key].tolist() == expected[key].tolist(), way


async def test_native_answers_are_the_same(http: httpx.AsyncClient) -> None:
    name, tensors = INPUTS["two inputs"]
    inputs = {key: array.tolist() for key, array in tensors.items()}
    native = (await http.post(f"/{name}/predict", json={"inputs": inputs})).json()["outputs"]
    assert (await http.post(f"/v1/models/{name}:predict", json={"inputs": inputs})).json()["outputs"] == native
    name, tensors = INPUTS["mixed columns"]
    rows = [dict(zip(tensors, (array[index][0] for array in tensors.values()), strict=True)) for index in range(3)]
    rows = json.loads(json.dumps(rows, default=lambda value: value.item()))
    native = (await http.post(f"/{name}/predict", json={"data": rows})).json()["prediction"]
    predictions = (await http.post(f"/v1/models/{name}:predict", json={"instances": rows})).json()["predictions"]
    assert [row["probabilities"] for row in predictions] == native
    assert [row["place"] for row in predictions] == [["Paris"], ["Bern"], ["São Paulo"]]
    scores = (await http.post(f"/v1/models/{name}:classify", json={"examples": rows})).json()["results"]
    assert [[score for _, score in row] for row in scores] == native
    labels = (await http.post(f"/{name}/predict/label", json={"data": rows})).json()["prediction"]
    given = [
        {"name": key, "shape": [3, 1], "datatype": datatype(array), "data": array.tolist()}
        for key, array in tensors.items()
    ]
    wanted = [{"name": "label"}, {"name": "probabilities", "parameters": {"classification": 1}}]
    outputs = (await http.post(f"/v2/models/{name}/infer", json={"inputs": given, "outputs": wanted})).json()["outputs"]
    assert outputs[0]["data"] == labels
    assert [text.split(":")[2] for text in outputs[1]["data"]] == labels


async def test_metadata_lists_all_inputs_and_outputs(http: httpx.AsyncClient) -> None:
    found = (await http.get("/v2/models/mixed")).json()
    assert found["inputs"] == [
        {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "seats", "datatype": "INT64", "shape": [-1, 1]},
    ]
    assert [output["name"] for output in found["outputs"]] == ["probabilities", "place", "places", "label"]
    assert (await http.get("/v2/models/free")).json()["inputs"][0]["shape"] == [-1, 1], "one string for each row"
    step = (await http.get("/v2/models/step/config")).json()
    assert step["max_batch_size"] == 0
    assert [(each["data_type"], each["dims"]) for each in step["input"]] == [
        ("TYPE_FP64", [2, 3]),
        ("TYPE_FP64", []),
        ("TYPE_STRING", [-1]),
    ]
    mixed = (await http.get("/v2/models/mixed/config")).json()
    assert (mixed["max_batch_size"], mixed["input"][0]["dims"]) == (1024, [1])
    signatures = (await http.get("/v1/models/mixed/metadata")).json()["metadata"]["signature_def"]["signature_def"]
    assert list(signatures) == ["serving_default", "classify"]
    assert {name: each["dtype"] for name, each in signatures["serving_default"]["inputs"].items()} == {
        "age": "DT_FLOAT",
        "city": "DT_STRING",
        "seats": "DT_INT64",
    }
    towers = (await http.get("/v1/models/towers/metadata")).json()["metadata"]["signature_def"]["signature_def"]
    assert list(towers) == ["serving_default"], "there are no classes"


@pytest.mark.parametrize(
    "instances",
    [
        [{"age": 31, "city": "Paris", "seats": 2}, {"age": 0.5, "city": "Bern", "seats": 1}],
        [{"seats": [2], "age": [31], "city": ["Paris"]}, {"seats": [1], "age": [0.5], "city": ["Bern"]}],
        [
            {"age": 31, "city": {"b64": base64.b64encode(b"Paris").decode()}, "seats": 2},
            {"age": 0.5, "city": [{"b64": "QmVybg"}], "seats": [1]},
        ],
    ],
    ids=["values", "lists", "base64"],
)
async def test_rows_of_one_input_for_each_column(http: httpx.AsyncClient, instances: Any) -> None:
    response = await http.post("/v1/models/mixed:predict", json={"instances": instances})
    assert response.status_code == 200, response.text
    assert [(row["place"], row["places"]) for row in response.json()["predictions"]] == [
        (["Paris"], [2]),
        (["Bern"], [1]),
    ]
    columns = {name: [row[name] for row in instances] for name in instances[0]}
    response = await http.post("/v1/models/mixed:predict", json={"inputs": columns})
    assert response.json()["outputs"]["place"] == [["Paris"], ["Bern"]]


async def test_strings_may_be_a_column_or_a_list(http: httpx.AsyncClient, calls: Any) -> None:
    name, tensors = INPUTS["mixed columns"]
    flat = tensors | {"city": tensors["city"].reshape(-1)}
    free = INPUTS["free dimensions"][1]
    column = free | {"words": free["words"].reshape(-1, 1)}
    for way, ask in ways(http, calls).items():
        if way.startswith("V2"):
            assert (await ask(name, flat))["place"].tolist() == [["Paris"], ["Bern"], ["São Paulo"]], way
            assert (await ask("free", column))["said"].tolist() == ["x", "y"], way


async def test_null_is_a_missing_value_where_the_model_takes_them(http: httpx.AsyncClient) -> None:
    given = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [None, 2.0]}
    outputs = (await http.post("/v2/models/missing/infer", json={"inputs": [given]})).json()["outputs"]
    assert [output["data"] for output in outputs] == [[True, False], [None, 2.0]]
    answer = await http.post("/v1/models/missing:predict", json={"instances": [[None, 2.0]]})
    assert answer.json() == {"predictions": [{"missing": [True, False], "y": [None, 2.0]}]}
    for path, body in (
        ("/v2/models/missing/infer", {"inputs": [given | {"data": [1e39, 2.0]}]}),
        ("/v1/models/missing:predict", {"instances": [[1e39, 2.0]]}),
    ):
        response = await http.post(path, json=body)
        assert (response.status_code, response.json()) == (400, {"error": "x: a number does not fit into float32"})


def given(model_name: str, /, **changes: Any) -> dict[str, Any]:
    """Inputs of a model as V2 has them, with changes to the first one."""
    tensors = next(tensors for model, tensors in INPUTS.values() if model == model_name)
    inputs = [
        {"name": key, "shape": list(array.shape), "datatype": datatype(array), "data": array.tolist()}
        for key, array in tensors.items()
    ]
    inputs[0] |= changes
    return {"inputs": json.loads(json.dumps(inputs))}


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing input": (
        "towers",
        {"inputs": given("towers")["inputs"][:1]},
        "the input item is missing; the model has user, item",
    ),
    "unknown input": ("towers", given("towers", name="x"), "there is no input x; the model has user, item"),
    "input twice": ("towers", {"inputs": given("towers")["inputs"] * 2}, "an input is given twice"),
    "wrong datatype": ("towers", given("towers", datatype="FP64"), "user: the datatype has to be FP32, not FP64"),
    "wrong shape": ("towers", given("towers", shape=[2, 5]), "user: the shape [2, 5] is not [N, 2]"),
    "other rows": ("towers", given("towers", shape=[1, 2], data=[1, 2]), "item: 2 rows, where other inputs have 1"),
    "wrong number": ("towers", given("towers", data=[1, 2, 3]), "user: there are 3 elements, the shape needs 4"),
    "other nesting": ("towers", given("towers", data=[[1], [2], [3], [4]]), "user: the data has the shape [4, 1]"),
    "fixed dimension": ("step", given("step", shape=[3, 2]), "state: the shape [3, 2] is not [2, 3]"),
    "too large": ("same_int8", given("same_int8", data=[1, 2, 3, 128]), "x: data: Expected `int` <= 127"),
    "too large for 64 bits": ("same_uint64", given("same_uint64", data=[1, 2, 3, 2**64]), "x: "),
    "negative": ("same_uint64", given("same_uint64", data=[1, 2, 3, -1]), "x: data: Expected `int` >= 0"),
    "half a number": ("same_int64", given("same_int64", data=[1, 2, 3, 0.5]), "x: data: Expected `int`"),
    "number as a flag": ("same_bool", given("same_bool", data=[1, 0, 1, 0]), "x: data: Expected `bool`"),
    "number as a string": ("same_string", given("same_string", data=["a", "b", "c", 1]), "x: data: Expected `str`"),
    "fewer strings": ("same_string", given("same_string", data=["a", "b", "c"]), "x: there are 3 elements"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_wrong_is_named(http: httpx.AsyncClient, bad: str) -> None:
    name, body, text = BAD[bad]
    response = await http.post(f"/v2/models/{name}/infer", json=body)
    assert response.status_code == 400, response.text
    assert text in response.json()["error"]


async def test_strings_that_are_not_text_are_refused(http: httpx.AsyncClient, calls: grpc.aio.Channel) -> None:
    data = b"\1\0\0\0a" * 3 + b"\2\0\0\0\xff\xfe"
    text = json.dumps(
        {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}]}
    ).encode()
    response = await http.post("/v2/models/same_string/infer", content=text + data, headers={LENGTH: str(len(text))})
    wording = "x: element 3 is not text in UTF-8"
    assert (response.status_code, response.json()) == (400, {"error": wording})
    request = ModelInferRequest(model_name="same_string", raw_input_contents=[data])
    request.inputs.add(name="x", datatype="BYTES", shape=[2, 2])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(calls, "ModelInfer")(request, timeout=30)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, wording)


async def test_both_transports_have_the_same_words(http: httpx.AsyncClient, calls: grpc.aio.Channel) -> None:
    for name, body, _ in BAD.values():
        inputs = body["inputs"]
        request = ModelInferRequest(model_name=name)
        for each in inputs:
            request.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        told = (await http.post(f"/v2/models/{name}/infer", json=body)).json()["error"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(calls, "ModelInfer")(request, timeout=30)
        if "elements" in (caught.value.details() or ""):
            continue  # the JSON has data, the message here has none
        assert caught.value.details() == told


TF_BAD: dict[str, tuple[str, Any, str]] = {
    "rows where there are none": ("step", {"instances": [1]}, "no rows in common; send inputs"),
    "values of several inputs": ("towers", {"instances": [[1, 2]]}, "objects with all of them are required"),
    "column of several inputs": ("towers", {"inputs": [[1, 2]]}, "objects with all of them are required"),
    "missing input": ("mixed", {"instances": [{"age": 31, "city": "x"}]}, "missing required field `seats`"),
    "unknown input": ("mixed", {"instances": [{"age": 1, "city": "x", "seats": 1, "z": 1}]}, "unknown field `z`"),
    "number for text": ("mixed", {"instances": [{"age": 1, "city": 7, "seats": 1}]}, "instances: "),
    "text for a number": ("mixed", {"instances": [{"age": "1", "city": "x", "seats": 1}]}, "instances: "),
    "two values in a row": ("mixed", {"instances": [{"age": [1, 2], "city": "x", "seats": 1}]}, "age: "),
    "other rows": ("towers", {"inputs": {"user": [[1, 2]], "item": [[1, 2, 3]] * 2}}, "item: 2 rows"),
    "ragged": ("free", {"instances": [{"words": "a", "values": [1]}, {"words": "b", "values": []}]}, "values: "),
    "no text": ("same_string", {"instances": [[{"b64": "/w=="}, "a"]]}, "x: element 0 is not text in UTF-8"),
    "fixed dimension": ("step", {"inputs": {"state": [[1.0]], "rate": 1, "words": []}}, "state: the shape [1, 1]"),
}


@pytest.mark.parametrize("bad", TF_BAD)
async def test_what_is_wrong_is_named_by_tensorflow_serving(http: httpx.AsyncClient, bad: str) -> None:
    name, body, text = TF_BAD[bad]
    response = await http.post(f"/v1/models/{name}:predict", json=body)
    assert response.status_code == 400, response.text
    assert text in response.json()["error"]


def spoilt(rng: random.Random) -> tuple[str, bytes]:
    """Path and body of a request for one of the models, spoilt in up to three places."""
    name, tensors = rng.choice(list(INPUTS.values()))
    if rng.random() < 0.6:
        path, document = f"/v2/models/{name}/infer", given(name)
    elif rng.random() < 0.5:
        path, document = (
            f"/v1/models/{name}:predict",
            {"inputs": {key: array.tolist() for key, array in tensors.items()}},
        )
    else:
        rows = [
            {key: array.tolist()[index] if array.ndim else 0 for key, array in tensors.items()}
            for index in range(len(next(iter(tensors.values()))))
        ]
        method_, key = rng.choice([("predict", "instances"), ("classify", "examples")])
        path, document = f"/v1/models/{name}:{method_}", {key: rows}
    document = json.loads(json.dumps(document))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        _spoil(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.9).encode(errors="surrogatepass")
    return path, _spoil_bytes(text, rng) if rng.random() < 0.1 else text


async def test_nothing_that_is_sent_fails_the_server(http: httpx.AsyncClient) -> None:
    rng = random.Random(7)
    seen: dict[int, int] = {}
    for number in range(CASES):
        path, body = spoilt(rng)
        response = await http.post(path, content=body)
        told = f"case {number}: {path} {body[:500]!r}: {response.status_code} {response.text[:300]}"
        assert response.status_code in (200, 400, 413), told
        assert response.status_code == 200 or len(response.json()["error"]) < 700, told
        seen[response.status_code] = seen.get(response.status_code, 0) + 1
    assert min(seen.get(200, 0), seen.get(400, 0)) > CASES / 10, "there are right ones and wrong ones among them"
