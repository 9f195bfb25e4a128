"""What a hostile message may cost before it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from serving.core.errors import InvalidInputError, MalformedRequestError
from serving.grpc.messages import message
from serving.grpc.wire import check_fields

Request = message("inference.ModelInferRequest")
LARGE = 20_000


def test_large_messages_of_few_fields_pass() -> None:
    request = Request(model_name="iris", id="7")
    tensor = request.inputs.add(name="features", datatype="FP32", shape=[LARGE, 4])
    tensor.contents.fp32_contents.extend(np.ones(LARGE * 4).tolist())
    request.raw_input_contents.append(bytes(1_000_000))
    check_fields(request.SerializeToString(), Request)


def test_so_do_a_thousand_examples() -> None:
    given = message("tensorflow.serving.ClassificationRequest")()
    for _ in range(1024):
        example = given.input.example_list.examples.add()
        for name in ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"):
            example.features.feature[name].float_list.value.append(1.0)
    check_fields(given.SerializeToString(), type(given))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x2a\x00" * 1_000_000, id="inputs"),
        pytest.param(b"\x22\x00" * 1_000_000, id="parameters"),
        pytest.param(b"\x0a\x00" * 1_000_000, id="names"),
        pytest.param(b"\x2a\x80\x89\x7a" + b"\x22\x00" * 1_000_000, id="parameters of an input"),
        pytest.param(b"\xf8\x07\x01" * 1_000_000, id="unknown fields"),
    ],
)
def test_nothing_but_fields_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError, match="more than 50000 fields"):
        check_fields(body, Request)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x2b" * LARGE, id="a group"),
        pytest.param(b"\xff" * LARGE, id="an endless number"),
        pytest.param(b"\x08\x01" * LARGE + b"\x08", id="no value"),
        pytest.param(b"\x2a\x00" * LARGE + b"\x2a\x7f", id="a field that is longer than the message"),
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        check_fields(body, Request)
