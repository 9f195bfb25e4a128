"""TensorFlow Serving's gRPC API: what is answered, and what is refused with which status."""

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
from tests.grpc.requests import DT_DOUBLE, DT_STRING, ROW, ClassificationRequest, predict_images, predict_rows
from tests.protocols.engine import probabilities_of

pytestmark = pytest.mark.anyio

ROWS = [ROW, (6.7, 3.0, 5.2, 2.3), (5.9, 2.8, 4.3, 1.3)]
NOT_FOUND, INVALID_ARGUMENT = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT


async def refused(ask: Ask, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(method, request)
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("content", [True, False], ids=["tensor_content", "float_val"])
async def test_rows_are_predicted_as_the_engine_does(ask: Ask, running: Any, content: bool) -> None:
    response = await ask("Predict", predict_rows(ROWS, content=content))
    expected = probabilities_of(running, ROWS)
    (name,) = response.outputs
    assert name == "probabilities"
    assert [dimension.size for dimension in response.outputs[name].tensor_shape.dim] == [3, 3]
    assert list(response.outputs[name].float_val) == expected.ravel().tolist()
    spec = response.model_spec
    served = running.models.find("iris")
    assert (spec.name, spec.version.value, spec.signature_name) == ("iris", served.version, "serving_default")


async def test_a_list_that_is_too_short_goes_on_with_its_last_element(ask: Ask, running: Any) -> None:
    for values, rows in (
        ([2.0], [[2.0] * 4] * 2),
        ([1.0, 2.0], [[1.0, 2.0, 2.0, 2.0], [2.0] * 4]),
        ([], [[0.0] * 4] * 2),
    ):
        request = predict_rows(rows, content=False)
        del request.inputs["features"].float_val[:]
        request.inputs["features"].float_val.extend(values)
        response = await ask("Predict", request)
        expected = probabilities_of(running, rows)
        assert list(response.outputs["probabilities"].float_val) == expected.ravel().tolist()


async def test_images_answer_labels_and_by_another_signature_probabilities(ask: Ask, running: Any) -> None:
    image = sample_image()
    response = await ask("Predict", predict_images(image, base64.urlsafe_b64encode(image)))
    assert list(response.outputs) == ["output_0"]
    labels = response.outputs["output_0"]
    assert (labels.dtype, [dimension.size for dimension in labels.tensor_shape.dim]) == (DT_STRING, [2])
    response = await ask("Predict", predict_images(image, signature="probabilities"))
    probabilities = np.array(response.outputs["probabilities"].float_val)
    assert response.model_spec.signature_name == "probabilities"
    label = running.models["inception_v3"].metadata.labels[int(probabilities.argmax())].encode()
    assert list(labels.string_val) == [label, label]
    packed = predict_images(image)
    packed.inputs["image"].ClearField("string_val")
    length = len(image)
    varint = bytes([length & 0x7F | 0x80, length >> 7]) if length >= 128 else bytes([length])
    packed.inputs["image"].tensor_content = varint + image
    assert list((await ask("Predict", packed)).outputs["output_0"].string_val) == [label]


def example(features: dict[str, Any]) -> Any:
    made = message("tensorflow.Example")()
    for name, values in features.items():
        feature = made.features.feature[name]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return made


def classify(*examples: Any, model: str = "iris", signature: str = "", context: Any = None) -> Any:
    request = ClassificationRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        request.input.example_list_with_context.examples.extend(examples)
        request.input.example_list_with_context.context.MergeFrom(context)
    return request


COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


async def test_examples_are_classified(ask: Ask, running: Any) -> None:
    expected = probabilities_of(running, ROWS).tolist()
    columns = [dict(zip(COLUMNS, ([value] for value in row), strict=True)) for row in ROWS]
    context = example({COLUMNS[0]: [ROW[0]]})
    last = {name: values for name, values in columns[0].items() if name != COLUMNS[0]}
    for request, rows in (
        (classify(*(example(row) for row in columns)), expected),
        (classify(*(example({"features": list(row)}) for row in ROWS), signature="classify"), expected),
        (classify(example(last), context=context), expected[:1]),
    ):
        response = await ask("Classify", request)
        found = [
            [(each.label, each.score) for each in classifications.classes]
            for classifications in response.result.classifications
        ]
        assert found == [list(zip(running.models["iris"].metadata.labels, row, strict=True)) for row in rows]
        assert response.model_spec.signature_name == "classify"
    response = await ask("Classify", classify(example({"image": [sample_image()]}), model="inception_v3"))
    assert [len(each.classes) for each in response.result.classifications] == [1000]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        pytest.param(classify(), "there are no examples", id="none"),
        pytest.param(ClassificationRequest(model_spec={"name": "iris"}), "example_list is required", id="no input"),
        pytest.param(classify(example({"x": [1.0]})), "examples[0]: unknown feature", id="unknown"),
        pytest.param(classify(example({COLUMNS[0]: [1.0]})), "sepal width (cm) is missing", id="missing"),
        pytest.param(
            classify(example({"features": [1.0] * 4}), context=example({"features": [1.0] * 4})),
            "a feature of the context is in the example too",
            id="twice",
        ),
        pytest.param(classify(example({"features": [1.0]})), "has 1 values, not 4", id="too few"),
        pytest.param(classify(example({"features": [1, 2, 3, 4]})), "is not a float_list", id="integers"),
        pytest.param(
            classify(example({"features": [1.0] * 4}), signature="serving_default"), "method of signature", id="predict"
        ),
    ],
)
async def test_bad_examples_are_refused(ask: Ask, request_: Any, text: str) -> None:
    code, details = await refused(ask, "Classify", request_)
    assert code == INVALID_ARGUMENT
    assert text in details


async def test_metadata_has_the_signatures(ask: Ask, running: Any) -> None:
    request = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=["signature_def"])
    request.model_spec.name = "inception_v3"
    response = await ask("GetModelMetadata", request)
    assert response.model_spec.version.value == running.models.find("inception_v3").version
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = message("tensorflow.serving.SignatureDefMap").FromString(packed.value).signature_def
    assert sorted(signatures) == ["classify", "probabilities", "serving_default"]
    default = signatures["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert (default.inputs["image"].dtype, default.inputs["image"].tensor_shape.dim[0].size) == (DT_STRING, -1)
    assert list(default.outputs) == ["output_0"]
    for fields, text in (([], "at least one metadata_field"), (["graph"], "graph is not supported")):
        bad = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=fields)
        bad.model_spec.name = "iris"
        code, details = await refused(ask, "GetModelMetadata", bad)
        assert (code, text in details) == (INVALID_ARGUMENT, True)


async def test_status_names_the_version(ask: Ask, running: Any) -> None:
    request = message("tensorflow.serving.GetModelStatusRequest")()
    request.model_spec.name = "iris"
    (status,) = (await ask("GetModelStatus", request)).model_version_status
    assert (status.version, status.state) == (running.models.find("iris").version, 30)
    assert (status.HasField("status"), status.status.error_code) == (True, 0)


async def test_a_model_is_chosen_by_version_or_label(ask: Ask, running: Any) -> None:
    served = running.models.find("iris")
    expected = (await ask("Predict", predict_rows())).outputs["probabilities"]
    for choose in (
        lambda spec: setattr(spec.version, "value", served.version),
        lambda spec: setattr(spec, "version_label", "stable"),
        lambda spec: setattr(spec, "version_label", served.tag.partition(":")[2]),
    ):
        request = predict_rows()
        choose(request.model_spec)
        assert (await ask("Predict", request)).outputs["probabilities"] == expected
    for change, code, text in (
        (lambda spec: setattr(spec, "name", "irs"), NOT_FOUND, "Servable not found for request: Latest(irs)"),
        (lambda spec: setattr(spec.version, "value", 3), NOT_FOUND, "Specific(iris, 3)"),
        (lambda spec: setattr(spec.version, "value", -(2**63)), NOT_FOUND, "Servable not found"),
        (lambda spec: setattr(spec, "version_label", "x"), INVALID_ARGUMENT, "Unrecognized servable version label: x"),
        (lambda spec: setattr(spec, "name", ""), INVALID_ARGUMENT, "Missing ModelSpec"),
        (lambda spec: setattr(spec, "name", "x" * 10_000), NOT_FOUND, "Servable not found"),
        (lambda spec: setattr(spec, "signature_name", "x"), INVALID_ARGUMENT, 'Serving signature key "x" not found'),
        (lambda spec: setattr(spec, "signature_name", "classify"), INVALID_ARGUMENT, "the method of signature"),
    ):
        request = predict_rows()
        change(request.model_spec)
        found, details = await refused(ask, "Predict", request)
        assert (found, text in details, len(details) < 300) == (code, True, True), details


async def test_only_the_outputs_that_are_asked_for_are_sent(ask: Ask) -> None:
    request = predict_rows()
    request.output_filter.append("probabilities")
    assert list((await ask("Predict", request)).outputs) == ["probabilities"]
    request.output_filter.append("probabilities")
    assert (await refused(ask, "Predict", request))[0] == INVALID_ARGUMENT
    request.output_filter[1] = "label"
    code, details = await refused(ask, "Predict", request)
    assert (code, "output tensor alias not found in signature: label" in details) == (INVALID_ARGUMENT, True)


def _shape(*lengths: int) -> Callable[[Any], None]:
    def change(tensor: Any) -> None:
        del tensor.tensor_shape.dim[:]
        for length in lengths:
            tensor.tensor_shape.dim.add(size=length)

    return change


def _one(*lengths: int) -> Callable[[Any], None]:
    """A claim of many elements, with one."""

    def change(tensor: Any) -> None:
        _shape(*lengths)(tensor)
        tensor.tensor_content = b""
        tensor.float_val.append(1)

    return change


BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "double": (lambda tensor: setattr(tensor, "dtype", DT_DOUBLE), "expected DT_FLOAT, not DT_DOUBLE"),
    "unknown type": (lambda tensor: setattr(tensor, "dtype", 77), "expected DT_FLOAT, not type 77"),
    "no type": (lambda tensor: tensor.ClearField("dtype"), "not DT_INVALID"),
    "no shape": (lambda tensor: tensor.ClearField("tensor_shape"), "the shape [] is not [N, 4]"),
    "unknown rank": (lambda tensor: setattr(tensor.tensor_shape, "unknown_rank", True), "the shape is unknown"),
    "one dimension": (_shape(4), "the shape [4] is not"),
    "no rows": (_shape(0, 4), "the shape [0, 4] is not"),
    "negative": (_shape(-1, 4), "the shape [-1, 4] is not"),
    "2^31 rows": (_shape(2**31, 4), "there are 16 bytes, the shape needs 34359738368"),
    "2^31 rows of one number": (_one(2**31, 4), "there are 1 elements"),
    "2^29 rows of one number": (_one(2**29, 4), "there are 1 elements"),
    "2,000 rows of one number": (_one(2000, 4), "1 to 1024 rows are allowed"),
    "overflow": (_one(2**62, 4), "there are 1 elements"),
    "too short": (
        lambda tensor: setattr(tensor, "tensor_content", b"\0" * 15),
        "there are 15 bytes, the shape needs 16",
    ),
    "too long": (
        lambda tensor: setattr(tensor, "tensor_content", b"\0" * 17),
        "there are 17 bytes, the shape needs 16",
    ),
    "too many": (
        lambda tensor: (tensor.ClearField("tensor_content"), tensor.float_val.extend([1.0] * 5)),
        "there are 5 elements, the shape needs 4",
    ),
    "infinite": (
        lambda tensor: setattr(tensor, "tensor_content", np.array([np.inf, 1, 1, 1], "<f4").tobytes()),
        "a finite number is required",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_tensors_are_refused(ask: Ask, name: str) -> None:
    change, text = BAD[name]
    request = predict_rows()
    change(request.inputs["features"])
    code, details = await refused(ask, "Predict", request)
    assert (code, text in details) == (INVALID_ARGUMENT, True), details


async def test_other_inputs_are_refused(ask: Ask) -> None:
    request = predict_rows()
    request.inputs["x" * 9000].dtype = 1
    code, details = await refused(ask, "Predict", request)
    assert (code, "the inputs have to be {features}" in details, len(details) < 400) == (INVALID_ARGUMENT, True, True)
    request.inputs.clear()
    assert (await refused(ask, "Predict", request))[0] == INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"\x05ab", 1),
        (b"\xff\xff\xff\xff\xff\xff\xff", 1),
        (b"\x80", 1),
        (b"\x01", 2),
        (b"\x00", 2**30),
        (b"\0" * 70_000, 70_000),
    ],
    ids=["cut off", "endless length", "half a length", "one length", "2^30", "many"],
)
async def test_packed_strings_that_are_not_there_are_refused(ask: Ask, content: bytes, count: int) -> None:
    request = predict_images(b"")
    request.inputs["image"].ClearField("string_val")
    request.inputs["image"].tensor_content = content
    request.inputs["image"].tensor_shape.dim[0].size = count
    assert (await refused(ask, "Predict", request))[0] == INVALID_ARGUMENT
    request.inputs["image"].ClearField("tensor_content")
    assert (await refused(ask, "Predict", request))[0] == INVALID_ARGUMENT


async def test_what_there_is_not_is_unimplemented(channel: grpc.aio.Channel) -> None:
    for path in (
        "/tensorflow.serving.PredictionService/Regress",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/x/y",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path)(b"", timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
