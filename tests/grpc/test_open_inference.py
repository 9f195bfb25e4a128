"""The Open Inference Protocol over gRPC: what is answered, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from serving.codecs.image_decoding import sample_image
from serving.grpc.messages import message
from tests.grpc.conftest import Ask
from tests.grpc.requests import ROW, ModelInferRequest, infer_images, infer_rows
from tests.protocols.engine import pixels_of, probabilities_of

pytestmark = pytest.mark.anyio

ROWS = [ROW, (6.7, 3.0, 5.2, 2.3), (5.9, 2.8, 4.3, 1.3)]


def floats(response: Any, index: int = 0) -> list[list[float]]:
    """An output of raw float32."""
    output = response.outputs[index]
    assert output.datatype == "FP32"
    return np.frombuffer(response.raw_output_contents[index], "<f4").reshape(output.shape).tolist()


async def test_server_and_models_say_what_they_are(ask: Ask, running: Any) -> None:
    assert (await ask("ServerLive", message("inference.ServerLiveRequest")())).live
    assert (await ask("ServerReady", message("inference.ServerReadyRequest")())).ready
    server = await ask("ServerMetadata", message("inference.ServerMetadataRequest")())
    assert server.name == "model_serving"
    assert list(server.extensions) == [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "statistics",
    ]
    version = str(running.models.find("iris").version)
    for given in ("", version, running.models["iris"].tag.partition(":")[2]):
        assert (await ask("ModelReady", message("inference.ModelReadyRequest")(name="iris", version=given))).ready
    iris = await ask("ModelMetadata", message("inference.ModelMetadataRequest")(name="iris"))
    assert (iris.name, list(iris.versions), iris.platform) == ("iris", [version], "onnx_onnxv1")
    assert [(each.name, each.datatype, list(each.shape)) for each in iris.inputs] == [("features", "FP32", [-1, 4])]
    assert [(each.name, each.datatype, list(each.shape)) for each in iris.outputs] == [
        ("probabilities", "FP32", [-1, 3]),
        ("label", "BYTES", [-1]),
    ]
    images = await ask("ModelMetadata", message("inference.ModelMetadataRequest")(name="inception_v3"))
    assert [(each.name, each.datatype, list(each.shape)) for each in images.inputs] == [("image", "BYTES", [-1, 1])], (
        "all that are listed are required"
    )
    index = await ask("RepositoryIndex", message("inference.RepositoryIndexRequest")(ready=True))
    assert [(each.name, each.state) for each in index.models] == [("iris", "READY"), ("inception_v3", "READY")]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
async def test_rows_are_predicted_as_the_engine_does(ask: Ask, running: Any, raw: bool) -> None:
    response = await ask("ModelInfer", infer_rows(ROWS, raw=raw, id="a request"))
    expected = probabilities_of(running, ROWS)
    assert (response.model_name, response.id) == ("iris", "a request")
    assert [output.name for output in response.outputs] == ["probabilities", "label"]
    labels = [running.models["iris"].metadata.labels[index] for index in expected.argmax(axis=1)]
    if raw:
        assert floats(response) == expected.tolist()
        assert response.raw_output_contents[1] == b"".join(
            len(label).to_bytes(4, "little") + label.encode() for label in labels
        )
    else:
        assert not response.raw_output_contents, "whoever sends typed contents may know no others"
        assert list(response.outputs[0].contents.fp32_contents) == expected.ravel().tolist()
        assert [label.decode() for label in response.outputs[1].contents.bytes_contents] == labels


async def test_only_the_outputs_that_are_asked_for_are_sent(ask: Ask) -> None:
    request = infer_rows(ROWS)
    request.outputs.add(name="label")
    response = await ask("ModelInfer", request)
    assert [output.name for output in response.outputs] == ["label"]
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    response = await ask("ModelInfer", request)
    assert [(output.name, list(output.shape)) for output in response.outputs] == [
        ("label", [3]),
        ("probabilities", [3, 2]),
    ]
    request = infer_rows(ROWS[:1], raw=False)
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 99
    (output,) = (await ask("ModelInfer", request)).outputs
    assert list(output.shape) == [1, 3], "there are no more classes"
    found = [value.decode().split(":") for value in output.contents.bytes_contents]
    assert found[0][2] == "setosa"
    assert sum(float(probability) for probability, _, _ in found) == pytest.approx(1, abs=1e-4)


async def test_images_come_as_files_base64_or_pixels(ask: Ask, running: Any) -> None:
    image = sample_image()
    response = await ask("ModelInfer", infer_images(image))
    expected = floats(response)
    assert len(expected[0]) == 1000
    text = base64.urlsafe_b64encode(image)
    assert floats(await ask("ModelInfer", infer_images(text))) == expected
    typed = await ask("ModelInfer", infer_images(image, raw=False))
    assert list(typed.outputs[0].contents.fp32_contents) == expected[0]
    column = infer_images(image)
    column.inputs[0].shape.append(1)
    assert floats(await ask("ModelInfer", column)) == expected
    pixels = pixels_of(running, image)
    for name in ("pixels", "image"):
        request = ModelInferRequest(model_name="inception_v3", raw_input_contents=[pixels.tobytes()])
        request.inputs.add(name=name, datatype="UINT8", shape=pixels.shape)
        assert floats(await ask("ModelInfer", request)) == expected
    request.ClearField("raw_input_contents")
    request.inputs[0].contents.uint_contents.extend(pixels.ravel().tolist())
    typed = await ask("ModelInfer", request)
    assert list(typed.outputs[0].contents.fp32_contents) == expected[0]


def _tensor(**changes: Any) -> Callable[[Any], None]:
    """A change of the only input."""

    def change(request: Any) -> None:
        tensor = request.inputs[0]
        for name, value in changes.items():
            if name == "shape":
                del tensor.shape[:]
                tensor.shape.extend(value)
            else:
                setattr(tensor, name, value)

    return change


def _raw(content: bytes) -> Callable[[Any], None]:
    def change(request: Any) -> None:
        request.raw_input_contents[0] = content

    return change


BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no input": (lambda request: request.inputs.pop(), "raw_input_contents has 1 parts for 0 inputs"),
    "two inputs": (lambda request: request.inputs.add(name="features"), "raw_input_contents has 1 parts for 2 inputs"),
    "unknown input": (_tensor(name="x"), "there is no input x"),
    "long name": (_tensor(name="x" * 10_000), "there is no input x"),
    "no datatype": (_tensor(datatype=""), "has to be FP32, not (none)"),
    "other datatype": (_tensor(datatype="FP64"), "has to be FP32, not FP64"),
    "no shape": (_tensor(shape=[]), "the shape [] is not [N, 4]"),
    "one dimension": (_tensor(shape=[4]), "the shape [4] is not [N, 4]"),
    "no rows": (_tensor(shape=[0, 4]), "the shape [0, 4] is not"),
    "three columns": (_tensor(shape=[1, 3]), "the shape [1, 3] is not"),
    "negative": (_tensor(shape=[-1, 4]), "the shape [-1, 4] is not"),
    "both negative": (_tensor(shape=[-1, -4]), "the shape [-1, -4] is not"),
    "2^31 rows": (_tensor(shape=[2**31, 4]), "there are 16 bytes, the shape needs 34359738368"),
    "2^29 rows": (_tensor(shape=[2**29, 4]), "there are 16 bytes, the shape needs 8589934592"),
    "overflow": (_tensor(shape=[2**62, 4]), "there are 16 bytes, the shape needs 73786976294838206464"),
    "many dimensions": (_tensor(shape=[1] * 10_000), "is not [N, 4]"),
    "too short": (_raw(b"\0" * 15), "there are 15 bytes, the shape needs 16"),
    "too long": (_raw(b"\0" * 17), "there are 17 bytes, the shape needs 16"),
    "empty": (_raw(b""), "there are 0 bytes"),
    "not a number": (_raw(np.array([np.nan, 1, 1, 1], "<f4").tobytes()), "a finite number is required"),
    "two raw parts": (lambda request: request.raw_input_contents.append(b""), "raw_input_contents has 2 parts"),
    "raw and typed": (
        lambda request: request.inputs[0].contents.fp32_contents.append(1),
        "either contents or raw_input_contents",
    ),
    "no contents": (lambda request: request.ClearField("raw_input_contents"), "there are 0 elements"),
    "unknown output": (lambda request: request.outputs.add(name="x"), "there is no output x"),
    "an output twice": (lambda request: [request.outputs.add(name="label") for _ in range(2)], "asked for twice"),
    "too many rows": (
        lambda request: (_tensor(shape=[2000, 4])(request), _raw(bytes(32_000))(request)),
        "1 to 1024 rows are allowed",
    ),
    "shared memory": (
        lambda request: (
            request.inputs[0]
            .parameters["shared_memory_region"]
            .MergeFrom(message("inference.InferParameter")(string_param="x"))
        ),
        "shared memory is not supported",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_rows_are_refused(ask: Ask, name: str) -> None:
    change, text = BAD[name]
    request = infer_rows()
    change(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask("ModelInfer", request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert text in (caught.value.details() or "")
    assert len(caught.value.details() or "") < 300


@pytest.mark.parametrize(
    ("raw", "shape", "text"),
    [
        pytest.param(b"\x05\0\0\0abc", [1], "is cut off", id="an element is cut off"),
        pytest.param(b"\x05\0", [1], "is cut off", id="a length is cut off"),
        pytest.param(b"\xff\xff\xff\xff", [1], "is cut off", id="4 GB"),
        pytest.param(b"\0\0\0\0" * 3, [2], "the shape has 2 elements", id="more than the shape"),
        pytest.param(b"\0\0\0\0" * 3, [4], "the shape has 4 elements", id="fewer than the shape"),
        pytest.param(b"\0\0\0\0" * 100_000, [100_000], "more than 65536 strings", id="100,000 empty ones"),
        pytest.param(b"\0\0\0\0", [1], "there is no image: it is empty", id="empty"),
        pytest.param(b"\x03\0\0\0\x00\x01\x02", [1], "is not an image", id="no image"),
        pytest.param(b"", [0], "the shape [0] is not", id="none"),
    ],
)
async def test_bad_images_are_refused(ask: Ask, raw: bytes, shape: list[int], text: str) -> None:
    request = ModelInferRequest(model_name="inception_v3", raw_input_contents=[raw])
    request.inputs.add(name="image", datatype="BYTES", shape=shape)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask("ModelInfer", request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert text in (caught.value.details() or "")


@pytest.mark.parametrize("value", [{"string_param": "1"}, {"bool_param": True}, {"int64_param": -1}], ids=str)
async def test_a_classification_is_a_number(ask: Ask, value: dict[str, Any]) -> None:
    request = infer_rows()
    parameter = message("inference.InferParameter")(**value)
    request.outputs.add(name="probabilities").parameters["classification"].MergeFrom(parameter)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask("ModelInfer", request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("name", "version"), [("irs", ""), ("", ""), ("iris", "1"), ("iris", "x" * 9000)])
async def test_what_is_not_served_is_not_found(ask: Ask, name: str, version: str) -> None:
    for method, request in (
        ("ModelInfer", infer_rows(model_name=name, model_version=version)),
        ("ModelReady", message("inference.ModelReadyRequest")(name=name, version=version)),
        ("ModelMetadata", message("inference.ModelMetadataRequest")(name=name, version=version)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(method, request)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("body", [b"\xff", b"\x2a\x7f", b"\x0a\x02\xff\xfe", b"{}" * 20_000])
async def test_what_is_no_message_is_the_callers_fault(ask: Ask, body: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask("ModelInfer", body)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
